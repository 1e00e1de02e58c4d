"""What NVML says of the NVIDIA GPUs that servers on this machine may use.

NVML's documentation of device queries has the units: power in mW, energy in mJ, PCIe in KB/s.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from operator import or_
from types import ModuleType

Number = int | float
Handle = object


def _mean(values: Sequence[Number]) -> float:
    return sum(values) / len(values)


def _bits(values: Sequence[Number]) -> int:
    return reduce(or_, map(int, values))


# How the numbers of several GPUs make one; the others are added.
_JOIN: Mapping[str, Callable[[Sequence[Number]], Number]] = {
    "gpu_utilization": _mean,
    "gpu_sm_clock_mhz": min,
    "gpu_memory_clock_mhz": min,
    "gpu_temperature_c": max,
    "gpu_throttle": _bits,
}
_WORDS = {
    "gpu_energy_j": "energy",
    "gpu_power_w": "power",
    "gpu_utilization": "utilization",
    "gpu_memory_bytes": "memory",
    "gpu_sm_clock_mhz": "SM clock",
    "gpu_memory_clock_mhz": "memory clock",
    "gpu_temperature_c": "temperature",
    "gpu_throttle": "throttle reasons",
    "gpu_pcie_rx_bytes_s": "PCIe traffic",
    "gpu_pcie_tx_bytes_s": "PCIe traffic",
}


class Gpus:
    """The GPUs in CUDA_VISIBLE_DEVICES, all of them where it is not set.

    `absent`: why nothing can be read. `missing`: the fields that some GPU did not give, with why.
    `nvml`: the module `pynvml`, imported where it is None.
    """

    def __init__(self, nvml: ModuleType | None = None) -> None:
        self.absent: str | None = None
        self.missing: dict[str, str] = {}
        self._handles: list[Handle] = []
        self._pcie: dict[str, dict[int, Number]] = {}
        self._turn = 0
        try:
            self._nvml = nvml or importlib.import_module("pynvml")
        except ImportError:
            self.absent = "NVML is missing (pip install nvidia-ml-py)"
            return
        try:
            self._nvml.nvmlInit()
            self._handles = self._visible()
        except self._nvml.NVMLError as error:
            self.absent = f"NVML can't be used ({error})"
            return
        if not self._handles:
            self.absent = "NVML shows no GPU that servers may use"

    @property
    def count(self) -> int:
        """How many GPUs are read."""
        return len(self._handles)

    @property
    def trouble(self) -> str | None:
        """What NVML does not give, in a sentence."""
        if not self.missing:
            return None
        names = ", ".join(dict.fromkeys(_WORDS[field] for field in self.missing))
        reasons = "; ".join(dict.fromkeys(self.missing.values()))
        return f"NVML does not give {names} on this machine ({reasons})"

    def read(self) -> dict[str, Number]:
        """The fields of a sample; a field that any GPU does not give is left out.

        Takes some 40 ms, in which NVML measures the PCIe traffic of one of the GPUs.
        """
        values: dict[str, list[Number]] = {}
        for handle in self._handles:
            for field, query in self._queries(handle).items():
                number = self._number(field, query)
                if number is not None:
                    values.setdefault(field, []).append(number)
        fields = {
            field: _JOIN.get(field, sum)(numbers)
            for field, numbers in values.items()
            if len(numbers) == len(self._handles)
        }
        return fields | self._pcie_traffic()

    def _queries(self, handle: Handle) -> Mapping[str, Callable[[], Number]]:
        nvml = self._nvml
        return {
            "gpu_energy_j": lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3,
            "gpu_power_w": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
            "gpu_utilization": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            "gpu_memory_bytes": lambda: int(nvml.nvmlDeviceGetMemoryInfo(handle).used),
            "gpu_sm_clock_mhz": lambda: int(
                nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)
            ),
            "gpu_memory_clock_mhz": lambda: int(
                nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)
            ),
            "gpu_temperature_c": lambda: int(
                nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
            ),
            "gpu_throttle": lambda: self._throttle_reasons(handle),
        }

    def _throttle_reasons(self, handle: Handle) -> int:
        try:
            return int(self._nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
        except self._nvml.NVMLError_FunctionNotFound:  # the name before driver 535
            return int(self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))

    def _pcie_traffic(self) -> dict[str, Number]:
        """The last readings of all GPUs, added; a call reads one of them, which takes 40 ms."""
        nvml, gpu = self._nvml, self._turn
        self._turn = (gpu + 1) % len(self._handles)
        traffic: dict[str, Number] = {}
        for field, way in (
            ("gpu_pcie_rx_bytes_s", nvml.NVML_PCIE_UTIL_RX_BYTES),
            ("gpu_pcie_tx_bytes_s", nvml.NVML_PCIE_UTIL_TX_BYTES),
        ):
            query = partial(nvml.nvmlDeviceGetPcieThroughput, self._handles[gpu], way)
            kilobytes = self._number(field, query)
            readings = self._pcie.setdefault(field, {})
            if kilobytes is None:
                readings.pop(gpu, None)
            else:
                readings[gpu] = kilobytes * 1000
            if len(readings) == len(self._handles):
                traffic[field] = sum(readings.values())
        return traffic

    def _number(self, field: str, query: Callable[[], Number]) -> Number | None:
        try:
            return query()
        except self._nvml.NVMLError as error:
            self.missing.setdefault(field, str(error))
            return None

    def _visible(self) -> list[Handle]:
        """Handles by index or UUID, as CUDA_VISIBLE_DEVICES names them."""
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        if named is None:
            count = self._nvml.nvmlDeviceGetCount()
            return [self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        return [
            self._nvml.nvmlDeviceGetHandleByIndex(int(name))
            if name.isdigit()
            else self._nvml.nvmlDeviceGetHandleByUUID(name)
            for name in map(str.strip, named.split(","))
            if name and name != "-1"
        ]
