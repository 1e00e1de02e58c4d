"""The samples of one server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import msgspec

from foundation.run.records import TelemetrySample
from serve.readiness import session
from serve.telemetry.machine import ELSEWHERE
from serve.telemetry.metrics_page import MetricsPage
from serve.telemetry.process_tree import ProcessTree
from serve.telemetry.sampled import SampledServer

_MOST_ATTEMPTS = 3
"""So often a server of somebody else may give no number before it is asked no more."""


class ServerSamples:
    """Samples of a server while it is there.

    `samples`: so far. `over`: its processes are gone, or somebody else runs it and it gives no
    numbers.
    """

    def __init__(self, server: SampledServer) -> None:
        self.server = server
        self._session = session(server.endpoints[0])
        is_ours = server.pid is not None
        self._page = MetricsPage(server.endpoints[0], self._session, is_expected=is_ours)
        self._tree = None if server.pid is None else ProcessTree(server.pid)
        self.samples: list[TelemetrySample] = []
        self._running: asyncio.Task[None] | None = None
        self._attempts = 0
        self.over = False

    def start(self, machine: Mapping[str, int | float], began_ns: int) -> asyncio.Task[None] | None:
        """Begins a sample; None where the last one still waits for the server, or it is over."""
        if self.over or (self._running is not None and not self._running.done()):
            return None
        self._running = asyncio.create_task(self._take(machine, began_ns))
        return self._running

    async def settled(self) -> None:
        """Waits for the sample that has begun."""
        if self._running is not None:
            await asyncio.wait([self._running])

    async def _take(self, machine: Mapping[str, int | float], began_ns: int) -> None:
        clocks = {"monotonic_ns": began_ns, "unix_ns": time.time_ns()}
        processes = self._tree.read() if self._tree is not None else {}
        metrics = await self._page.read()
        if self._tree is not None and not processes:
            self.over = True
            return
        if not metrics and not processes:
            self._attempts += not self._page.answered
            self.over = self._attempts >= _MOST_ATTEMPTS
            return
        here = machine if self._tree is not None else {}
        fields = {"rss_bytes": None, "cpu_s": None, **here, **processes, **metrics, **clocks}
        self.samples.append(msgspec.convert(fields, TelemetrySample))

    async def close(self) -> list[str]:
        """Ends the sampling. Returns what was missing, a sentence each."""
        await self.settled()
        await self._session.close()
        return self._page.troubles

    @property
    def absent(self) -> Mapping[str, str]:
        """Why energy has no numbers, by field, of a server that somebody else runs."""
        if self._tree is not None:
            return {}
        return {"gpu_energy_j": ELSEWHERE, "cpu_energy_j": ELSEWHERE}
