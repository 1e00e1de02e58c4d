"""Profiles variants: a load of its own for each, on a server with vLLM's torch profiler.

Everything goes into a folder of the profile's own: no journal of the run changes.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dyno.experiment.schema import Experiment
from dyno.pipeline.block_runner import guarded
from dyno.pipeline.blocks import LoadBlock, replicas_of, stage_blocks, warm_up_blocks
from dyno.pipeline.loaded_servers import LoadedServers
from dyno.pipeline.opened_run import OpenedRun
from dyno.pipeline.serving import plan_serving
from dyno.pipeline.stopping import handled
from dyno.terminal.signals import ENDING
from foundation.errors import BadInput, SystemFailed
from foundation.http.endpoint import Endpoint
from foundation.progress import Silent
from foundation.run.layout import RunDirectory
from foundation.section import nearest
from loadgen.config import Stage
from loadgen.schedule.arrivals import WorkerShare
from serve import ServePlan, ServerFolders
from serve.vllm.profiler import profiled, start_profile, stop_profile, written_traces

DELAY_STEPS = 8
"""Steps that are left out while the load builds up."""
LIMIT_S = 600.0
"""The longest load of one variant; a slow server is profiled for fewer steps."""
_POLL_S = 0.5


@dataclass(frozen=True)
class TracedVariant:
    """A variant's trace, the plan of its server, and the server's log."""

    variant: str
    trace: Path
    plan: ServePlan
    log: Path


def stage_named(experiment: Experiment, name: str | None, rates: Mapping[str, float]) -> Stage:
    """The stage of this name, else the judged one, at its measured rate.

    Raises BadInput for a stage that can't be loaded on one variant alone.
    """
    stages = {stage.label: stage for stage in experiment.workload.stages}
    label = name or experiment.judged_stage
    if label not in stages:
        raise BadInput(f"--stage: {label!r} is no stage{nearest(label, stages)}")
    stage = stages[label]
    if stage.mix:
        raise BadInput(f"--stage: {label} is a mix of all variants; name a stage of one")
    if stage.relative_rate is None:
        return stage
    if label not in rates:
        raise BadInput(
            f"--stage: the rate of {label} is relative to {stage.relative_rate.of} and is not "
            "measured yet; name another stage, or a run that measured it"
        )
    return stage.at_rate(rates[label])


async def trace_variants(
    run: OpenedRun, out: RunDirectory, names: Sequence[str], stage: Stage, iterations: int
) -> list[TracedVariant]:
    """Traces the variants one after the other.

    `out`: the folder for traces, logs and journals, laid out like a run. Raises SystemFailed, and
    KeyboardInterrupt.
    """
    plan = plan_serving(run.prepared, run.directory)
    task = asyncio.current_task()
    assert task is not None
    try:
        with handled(dict.fromkeys(ENDING, task.cancel)):
            return [await _Tracing(run, out, name, stage, iterations).trace(plan) for name in names]
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


@dataclass
class _Tracing:
    run: OpenedRun
    out: RunDirectory
    variant: str
    stage: Stage
    iterations: int

    @property
    def _traces(self) -> Path:
        """Where the server's workers write."""
        return self.out.path / f"{self.variant}.traces"

    async def trace(self, plan: ServePlan) -> TracedVariant:
        """Starts the variant's server, loads it, and returns its trace."""
        plan = profiled(plan, self.variant, self._traces, DELAY_STEPS, self.iterations)
        self._traces.mkdir(parents=True)
        folders = ServerFolders(self.out.logs)
        servers = LoadedServers.of(self.run.prepared, plan, folders, self.run.progress)
        with servers.on_load_cores():
            async with servers.hosting.round([self.variant]) as endpoints:
                await servers.hosting.ready([self.variant])
                watch = partial(servers.hosting.watch, [self.variant])
                await guarded(watch, self._load(endpoints))
        trace = self.out.path / f"{self.variant}.trace.json.gz"
        traces = written_traces(self._traces)
        if not traces:
            raise SystemFailed(f"{self.variant}: its server made no trace; see {self.out.logs}")
        traces[0].replace(trace)
        shutil.rmtree(self._traces)
        [server] = plan.servers
        return TracedVariant(self.variant, trace, plan, self.out.logs / f"{server.name}.log")

    async def _load(self, endpoints: Mapping[str, Endpoint]) -> None:
        """Warms up, profiles under the stage's load, and stops the profiler.

        vLLM wants the stop even after the last step. If the load fails, the server ends instead.
        """
        endpoint, progress = endpoints[self.variant], self.run.progress
        for block in warm_up_blocks(self.run.prepared, [self.variant], self.out):
            await block.run(endpoints, Silent(), asyncio.Event())
        await start_profile(endpoint)
        enough = asyncio.Event()
        watching = asyncio.ensure_future(self._until_enough(enough))
        blocks = self._blocks()
        progress.stage(f"profile {self.variant}", sum(b.requests for b in blocks), "requests")
        try:
            for block in blocks:
                await block.run(endpoints, progress, enough)
                if enough.is_set():
                    break
        finally:
            watching.cancel()
        await stop_profile(endpoint)

    def _blocks(self) -> list[LoadBlock]:
        """The blocks of the stage for this variant, in a folder of their own.

        Of replicas only one is there, which gets every N-th request as in the run.
        """
        prepared = self.run.prepared
        share = WorkerShare(0, replicas_of(prepared, self.variant))
        blocks = stage_blocks(
            prepared, [self.variant], self.out, self.stage, prepared.experiment.workload.blocks
        )
        return [replace(block, share=share) for block in blocks if isinstance(block, LoadBlock)]

    async def _until_enough(self, enough: asyncio.Event) -> None:
        """Ends the load when the worker writes its trace, or after the time limit."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            if written_traces(self._traces):
                break
            await asyncio.sleep(_POLL_S)
        enough.set()
