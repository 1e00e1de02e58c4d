"""Serves and loads the variants: every block of every stage, with a journal for each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial

from dyno.estimates.timeline import BlockTimes, Timeline
from dyno.pipeline.block_runner import BlockRunner, Interrupted
from dyno.pipeline.blocks import LoadBlock, missing_blocks, stage_blocks, variants_named
from dyno.pipeline.core_division import core_division
from dyno.pipeline.environment import note_cores, note_requests
from dyno.pipeline.failures import forget_failures, record_failures
from dyno.pipeline.modelling import lacking_models, measure_models
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.stopping import Stopping, handled
from dyno.pipeline.warm_up import at_measured_rates, warmed_up
from foundation.cores import on_processors
from foundation.progress import Progress
from foundation.run.layout import RunDirectory
from loadgen import reach
from loadgen.config import Stage
from results.comparison.resolution import Planned
from serve import Hosting, ServePlan, ServerFailed, ServerFolders
from serve.otlp.traces import traces


@dataclass(frozen=True)
class Decisions:
    """Decisions on the remaining load, from the journals so far.

    `settled`: whether every verdict is settled. `plan_blocks`: how many blocks the resolution of
    the experiment takes.
    """

    settled: Callable[[], bool]
    plan_blocks: Callable[[], Planned]


async def measure(
    prepared: Prepared,
    plan: ServePlan,
    out: RunDirectory,
    progress: Progress,
    timeline: Timeline,
    decisions: Decisions,
) -> BlockTimes:
    """Writes every journal that is not whole yet, and returns the times of the blocks.

    With `until_decided`, adds blocks until every verdict is settled. With `resolution`, plans the
    blocks after a pilot. If a server does not start, dies or hangs, only its variants fail:
    `failures.json` names them, and the others are measured to the end. The server is not started
    again, since its death is a finding. Raises SystemFailed if nothing could be measured, and
    Interrupted after Ctrl-C.
    """
    measurement = _Measurement(prepared, plan, out, progress, timeline, decisions)
    try:
        await measurement.run()
    except asyncio.CancelledError:
        raise Interrupted from None
    return measurement.times


@dataclass
class _Measurement:
    prepared: Prepared
    plan: ServePlan
    out: RunDirectory
    progress: Progress
    timeline: Timeline
    decisions: Decisions
    times: BlockTimes = field(default_factory=BlockTimes)

    def __post_init__(self) -> None:
        workload = self.prepared.experiment.workload
        answers = partial(reach, workload=workload, log=self.progress.log)
        patience = workload.deadlines.first
        self._cores = core_division(workload, self.plan)
        if self._cores is not None:
            self.plan = replace(self.plan, processors=self._cores.servers)
        folders = ServerFolders(self.out.logs, self.out.telemetry, self.out.engine)
        self._hosting = Hosting(self.plan, folders, self.progress, answers, patience)
        self._stop = Stopping(self.progress.log)
        self._start = time.monotonic()
        self._failed: dict[str, ServerFailed] = {}

    async def run(self) -> None:
        for names in self.plan.rounds:
            if self._is_whole(names):
                forget_failures(self.out, names)
            else:
                await self._round(names)
        if self._failed and not any(self.out.path.glob("load/*/*/block-*.jsonl")):
            raise next(iter(self._failed.values()))

    def _is_whole(self, names: Sequence[str]) -> bool:
        experiment = self.prepared.experiment
        adds_blocks = experiment.until_decided is not None or experiment.resolution is not None
        if adds_blocks or missing_blocks(self.prepared, names, self.out):
            return False
        is_modelled = experiment.workload.model
        return not is_modelled or not lacking_models(self.prepared, names, self.out)

    async def _round(self, names: Sequence[str]) -> None:
        """Starts the servers of a round, and measures its variants."""
        servers = [
            server for server in self.plan.servers if any(v.name in names for v in server.variants)
        ]
        largest = max((server.memory.weights for server in servers), default=0)
        part = 1 / len(self.plan.rounds)
        async with AsyncExitStack() as stack:
            stack.enter_context(handled(self._stop.actions))
            for port in self._trace_ports(names):
                await stack.enter_async_context(traces(port, self.out.traces, self.progress.log))
            stack.enter_context(on_processors(self._cores.load if self._cores else None))
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
            note_cores(self.out.environment, self._cores)
            runner = BlockRunner(
                self._hosting, endpoints, self.progress, self._stop, self.times, self.out
            )
            # Later rounds use the corrected prompts and the rates that this one measured.
            self.prepared = await warmed_up(self.prepared, list(endpoints), self.out, runner)
            self.prepared = await at_measured_rates(self.prepared, names, self.out, runner)
            await self._load(names, runner, part)
            if self.prepared.experiment.workload.model:
                await self._model(names, runner)
            self._failed |= self._hosting.failed
            forget_failures(self.out, [name for name in names if name not in self._failed])

    def _trace_ports(self, names: Sequence[str]) -> list[int]:
        """The ports that the servers of these variants send traces to."""
        variants = variants_named(self.prepared, names).values()
        ports = {v.request.traces for v in variants if v.request and v.request.traces is not None}
        return sorted(ports)

    async def _load(self, names: Sequence[str], runner: BlockRunner, part: float) -> None:
        """Sends the blocks of variants whose servers are up. `part`: the share of all load."""
        prepared = self.prepared
        planned = await self._planned_blocks(names, runner)
        blocks = missing_blocks(prepared, names, self.out, planned)
        what = "all variants" if len(self.plan.rounds) == 1 else ", ".join(names)
        with self.timeline.doing("load", part=part):
            await runner.run(blocks, what)
        until = prepared.experiment.until_decided
        if until is None:
            return
        for count in until.block_counts(prepared.experiment.workload.blocks):
            if self.decisions.settled() or time.monotonic() - self._start > until.max_time:
                break
            more = stage_blocks(prepared, names, self.out, _judged(prepared), count)
            await runner.run(more, f"until decided, {count} blocks")

    async def _model(self, names: Sequence[str], runner: BlockRunner) -> None:
        """Measures the step times of the variants whose servers are up."""

        async def run_load(block: LoadBlock) -> None:
            await runner.run([block], f"for the model of {block.variant}")

        live = [name for name in names if name not in self._hosting.failed]
        models = await measure_models(self.prepared, live, self.out, run_load, self.progress)
        for name, model in models.items():
            if model.none is not None:
                self.progress.log(f"{name}: no model of its engine: {model.none}")

    async def _planned_blocks(self, names: Sequence[str], runner: BlockRunner) -> int:
        """The blocks of the judged stage: the experiment's, or planned from a pilot."""
        prepared = self.prepared
        resolution = prepared.experiment.resolution
        if resolution is None:
            return prepared.experiment.workload.blocks
        pilot = stage_blocks(prepared, names, self.out, _judged(prepared), resolution.pilot)
        await runner.run(pilot, "the pilot")
        planned = self.decisions.plan_blocks()
        for sentence in (*planned.sentences, f"so there will be {planned.blocks} blocks"):
            self.progress.log(sentence)
        return planned.blocks


def _judged(prepared: Prepared) -> Stage:
    experiment = prepared.experiment
    return next(s for s in experiment.workload.stages if s.label == experiment.judged_stage)
