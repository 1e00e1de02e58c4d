"""`python -m serve.telemetry.sampler`: samples servers until its standard input ends.

It reads a pickled plan from standard input, then lines: each asks for a sample now, and gets a line
in return. The end of input, also that of a parent that was killed, lets it write the files.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import sys
import time

import msgspec

from serve.telemetry.machine import MachineSensors
from serve.telemetry.replicas import write_files
from serve.telemetry.sampled import PERIOD_S, Report, SamplingPlan
from serve.telemetry.server_samples import ServerSamples


class Sampler:
    """Samples every server of a plan each `PERIOD_S`."""

    def __init__(self, plan: SamplingPlan) -> None:
        self._folder = plan.folder
        is_here = any(server.pid is not None for server in plan.servers)
        self._machine = MachineSensors() if is_here else None
        self._servers = [ServerSamples(server) for server in plan.servers]
        self._beginning = asyncio.Lock()

    async def run(self) -> None:
        """Samples until it is cancelled. A server that answers late misses samples."""
        due = time.monotonic()
        while not all(server.over for server in self._servers):
            async with self._beginning:
                await self._begin()
            due = max(due + PERIOD_S, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    async def sample(self) -> None:
        """Takes a whole sample of every server, which begins now."""
        async with self._beginning:
            await asyncio.gather(*(server.settled() for server in self._servers))
            tasks = await self._begin()
        if tasks:
            await asyncio.wait(tasks)

    async def _begin(self) -> list[asyncio.Task[None]]:
        """Begins a sample of every server that is not in one."""
        began_ns = time.monotonic_ns()
        machine = await self._machine.read() if self._machine else {}
        tasks = [server.start(machine, began_ns) for server in self._servers]
        return [task for task in tasks if task is not None]

    async def close(self) -> list[str]:
        """Writes the files. Returns what was missing, a sentence each."""
        absent = self._machine.absent if self._machine else {}
        trouble = self._machine.gpus.trouble if self._machine else None
        troubles = [trouble] if trouble else []
        for server in self._servers:
            troubles += await server.close()
        return troubles + write_files(self._servers, self._folder, absent)


async def _main() -> None:
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    length = int.from_bytes(await orders.readexactly(8), "big")
    plan: SamplingPlan = pickle.loads(await orders.readexactly(length))
    sampler = Sampler(plan)
    sampling = asyncio.create_task(sampler.run())
    try:
        _send(Report())
        while await orders.readline():
            await sampler.sample()
            _send(Report())
    finally:
        sampling.cancel()
        await asyncio.wait([sampling])
        _send(Report(await sampler.close()))


def _send(report: Report) -> None:
    """Says it to the parent, if that still lives."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    asyncio.run(_main())
