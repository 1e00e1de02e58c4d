"""Starts the servers of an experiment, round by round, and has its variants loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Protocol

from dyno.estimates.timeline import BlockTimes, Timeline
from dyno.pipeline.block_runner import BlockRunner, Interrupted, TimeOver
from dyno.pipeline.blocks import variants_named
from dyno.pipeline.environment import note_cores, note_requests
from dyno.pipeline.failures import forget_failures, record_failures
from dyno.pipeline.loaded_servers import LoadedServers
from dyno.pipeline.nodes import open_nodes, record_nodes
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.stopping import Stopping, handled
from dyno.pipeline.warm_up import at_measured_rates, warmed_up
from foundation.progress import Progress
from foundation.run.layout import RunDirectory
from serve import ServePlan, ServerFailed, ServerFolders
from serve.otlp.traces import traces


class RoundLoad(Protocol):
    """The load of variants whose servers are up together."""

    def is_whole(self, prepared: Prepared, names: Sequence[str]) -> bool:
        """Whether nothing is left to measure of these variants."""

    async def load(self, prepared: Prepared, names: Sequence[str], runner: BlockRunner) -> None:
        """Loads these variants, whose servers are up and warm."""


async def load_in_rounds(
    prepared: Prepared,
    plan: ServePlan,
    out: RunDirectory,
    progress: Progress,
    timeline: Timeline,
    load: RoundLoad,
) -> BlockTimes:
    """Has every round loaded that is not whole, and returns the times of the blocks.

    If a server does not start, dies or hangs, only its variants fail: `failures.json` names them,
    and the others are measured to the end. The server is not started again, since its death is a
    finding. Raises SystemFailed if nothing could be measured, and Interrupted after Ctrl-C.
    """
    rounds = _Rounds(prepared, plan, out, progress, timeline)
    try:
        await rounds.run(load)
    except asyncio.CancelledError:
        raise Interrupted from None
    return rounds.times


@dataclass
class _Rounds:
    prepared: Prepared
    plan: ServePlan
    out: RunDirectory
    progress: Progress
    timeline: Timeline
    times: BlockTimes = field(default_factory=BlockTimes)

    def __post_init__(self) -> None:
        folders = ServerFolders(self.out.logs, self.out.telemetry, self.out.engine)
        self._servers = LoadedServers.of(self.prepared, self.plan, folders, self.progress)
        self._hosting = self._servers.hosting
        self._stop = Stopping(self.progress.log)
        self._failed: dict[str, ServerFailed] = {}

    async def run(self, load: RoundLoad) -> None:
        for names in self.plan.rounds:
            if load.is_whole(self.prepared, names):
                forget_failures(self.out, names)
            elif self._stop.is_over:
                raise TimeOver
            else:
                await self._round(names, load)
        if self._failed and not any(self.out.path.glob("load/*/*/block-*.jsonl")):
            raise next(iter(self._failed.values()))

    async def _round(self, names: Sequence[str], load: RoundLoad) -> None:
        """Starts the servers of a round, and has its variants loaded."""
        servers = [
            server for server in self.plan.servers if any(v.name in names for v in server.variants)
        ]
        largest = max((server.memory.weights for server in servers), default=0)
        part = 1 / len(self.plan.rounds)
        async with AsyncExitStack() as stack:
            stack.enter_context(handled(self._stop.actions))
            for port in self._trace_ports(names):
                await stack.enter_async_context(traces(port, self.out.traces, self.progress.log))
            nodes = await stack.enter_async_context(open_nodes(self.prepared.experiment.workload))
            record_nodes(nodes, self.out)
            stack.enter_context(self._servers.on_load_cores())
            with self.timeline.doing("server", len(servers), largest, part):
                try:
                    endpoints = await stack.enter_async_context(
                        self._hosting.round(names, partly=True)
                    )
                except ServerFailed:  # no other server is in this round
                    self._failed |= self._hosting.failed
                    record_failures(self.out, self._hosting.failed, self.progress)
                    return
            record_failures(self.out, self._hosting.failed, self.progress)
            notes = {name: endpoint.notes for name, endpoint in endpoints.items()}
            note_requests(self.out.environment, notes)
            note_cores(self.out.environment, self._servers.cores)
            runner = BlockRunner(
                self._hosting, endpoints, self.progress, self._stop, self.times, self.out, nodes
            )
            # Later rounds use the corrected prompts and the rates that this one measured.
            self.prepared = await warmed_up(self.prepared, list(endpoints), self.out, runner)
            self.prepared = await at_measured_rates(self.prepared, names, self.out, runner)
            await load.load(self.prepared, names, runner)
            self._failed |= self._hosting.failed
            forget_failures(self.out, [name for name in names if name not in self._failed])

    def _trace_ports(self, names: Sequence[str]) -> list[int]:
        """The ports that the servers of these variants send traces to."""
        variants = variants_named(self.prepared, names).values()
        ports = {v.request.traces for v in variants if v.request and v.request.traces is not None}
        return sorted(ports)
