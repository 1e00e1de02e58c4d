"""This machine's numbers of a sample: of the host, the processors' energy and the GPUs."""

from __future__ import annotations

import asyncio

from serve.telemetry.gpus import Gpus
from serve.telemetry.host import read_host
from serve.telemetry.rapl import Rapl

ELSEWHERE = "somebody else runs the server"


class MachineSensors:
    """Everything that can be read here; made once for all servers on this machine."""

    def __init__(self) -> None:
        self.gpus = Gpus()
        self.rapl = Rapl()

    async def read(self) -> dict[str, int | float]:
        """The fields of a sample."""
        fields: dict[str, int | float] = {}
        joules = self.rapl.read_joules()
        if joules is not None:
            fields["cpu_energy_j"] = joules
        if self.gpus.absent is None:
            # In a thread: NVML sleeps while it measures the traffic.
            fields.update(await asyncio.to_thread(self.gpus.read))
        fields.update(read_host())
        return fields

    @property
    def absent(self) -> dict[str, str]:
        """Why energy can't be read, by field."""
        reasons = {}
        gpu = self.gpus.absent or self.gpus.missing.get("gpu_energy_j")
        if gpu is not None:
            reasons["gpu_energy_j"] = gpu if self.gpus.absent else f"NVML gives no energy ({gpu})"
        if self.rapl.absent is not None:
            reasons["cpu_energy_j"] = self.rapl.absent
        return reasons
