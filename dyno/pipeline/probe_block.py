"""A probe of a search: a block that ends early once its server is shown to be overloaded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dyno.pipeline.blocks import LoadBlock
from foundation.http.endpoint import Endpoint
from foundation.progress import Progress
from loadgen import run_block
from loadgen.schedule.arrivals import Schedule
from loadgen.sending.nodes.node import Node
from loadgen.sending.origin import Origin
from results.capacity.search.backlog import backlog_grows

SETTLED = 8.0
"""After so many times the latency of an idle server, no load is building up any more."""
_POLL_S = 0.25


@dataclass
class ProbeBlock(LoadBlock):
    """`idle_s`: the latency of an idle server, s; None: the block never ends early."""

    idle_s: float | None = None

    async def run(
        self,
        endpoints: Mapping[str, Endpoint],
        progress: Progress,
        stop: asyncio.Event,
        nodes: Sequence[Node] = (),
    ) -> None:
        """Sends the block; no further request once `stop` is set or the backlog grows."""
        if self.idle_s is None:
            await super().run(endpoints, progress, stop, nodes)
            return
        plan, enough = self.plan(endpoints, nodes), asyncio.Event()
        ended = _Ended(progress, plan.lead_ns)
        assert plan.timetable is not None
        watching = asyncio.create_task(
            self._watch(plan.timetable, self.idle_s, ended, stop, enough)
        )
        try:
            await run_block(plan, self.journal, ended, enough, ended.start)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(
        self,
        timetable: Schedule,
        idle_s: float,
        ended: _Ended,
        stop: asyncio.Event,
        enough: asyncio.Event,
    ) -> None:
        """Sets `enough` once `stop` is set, or the backlog grows."""
        due_ns = timetable.times_ns
        arrived: list[int] = []
        counts: list[int] = []
        while not stop.is_set():
            await asyncio.sleep(_POLL_S)
            now_ns = time.monotonic_ns() - ended.origin_ns
            if not ended.origin_ns or now_ns > due_ns[-1]:
                continue
            if now_ns > counts_from_ns(timetable, idle_s):
                arrived.append(int(np.searchsorted(due_ns, now_ns)))
                counts.append(ended.count)
            if backlog_grows(np.array(arrived), np.array(counts)):
                ended.log(f"{self.stage.label}: the backlog grows, so no further request is sent")
                break
        enough.set()


def counts_from_ns(timetable: Schedule, idle_s: float) -> float:
    """When the backlog begins to count, ns after the probe began.

    Never before the window: a probe that a backlog of its warm-up ended would show nothing.
    """
    return max(SETTLED * idle_s * 1e9, float(timetable.window_start_ns))


class _Ended:
    """Passes progress on, and counts the requests that ended."""

    def __init__(self, progress: Progress, lead_ns: int) -> None:
        self._progress, self._lead_ns = progress, lead_ns
        self.count, self.origin_ns = 0, 0

    async def start(self) -> Origin:
        """The origin of the block."""
        origin = Origin.ahead(self._lead_ns)
        self.origin_ns = origin.monotonic_ns
        return origin

    def stage(self, name: str, total: float | None, unit: str) -> None:
        self._progress.stage(name, total, unit)

    def advance(self, amount: float = 1, note: str = "") -> None:
        self.count += int(amount)
        self._progress.advance(amount, note)

    def log(self, line: str) -> None:
        self._progress.log(line)
