"""Serves and loads the variants: every block of every stage, with a journal for each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from dyno.estimates.timeline import BlockTimes, Timeline
from dyno.experiment.schema import Experiment
from dyno.pipeline.block_runner import BlockRunner, TimeOver
from dyno.pipeline.blocks import (
    LoadBlock,
    MixedBlock,
    missing_blocks,
    probe_blocks,
    stage_blocks,
)
from dyno.pipeline.modelling import lacking_models, measure_models
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.race import Look, StageRace, judged_stage, look_plan
from dyno.pipeline.rounds import load_in_rounds
from dyno.pipeline.search import VariantSearches
from foundation.progress import Progress, Silent
from foundation.run.layout import RunDirectory
from results.comparison.resolution import Planned
from serve import ServePlan


@dataclass(frozen=True)
class Decisions:
    """Decisions on the remaining load, from the journals so far.

    `settled`: whether every verdict is settled. `plan_blocks`: how many blocks the resolution of
    the experiment takes. `look`: who leaves a race. `searches`: what is searched after the blocks;
    None for nothing.
    """

    settled: Callable[[], bool]
    plan_blocks: Callable[[], Planned]
    look: Look
    searches: VariantSearches | None = None


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
    blocks after a pilot. In a race, variants leave on the way; the judged stage comes first. A
    server that fails takes its variants with it (`load_in_rounds`). Raises SystemFailed if nothing
    could be measured, and Interrupted after Ctrl-C.
    """
    if not prepared.experiment.races:
        out.race.unlink(missing_ok=True)
    elif len(plan.rounds) > 1:
        out.race.unlink(missing_ok=True)
        progress.log(
            f"no race: the servers take turns in {len(plan.rounds)} rounds, so no round of blocks "
            "holds every variant"
        )
    measurement = _Measurement(plan, out, progress, timeline, decisions)
    return await load_in_rounds(prepared, plan, out, progress, timeline, measurement)


@dataclass
class _Measurement:
    plan: ServePlan
    out: RunDirectory
    progress: Progress
    timeline: Timeline
    decisions: Decisions
    start: float = field(default_factory=time.monotonic)

    def is_whole(self, prepared: Prepared, names: Sequence[str]) -> bool:
        experiment = prepared.experiment
        if (race := self._race(prepared, names, Silent())) is not None:
            if race.next_round():
                return False
            race.keep()
            names = race.kept
        adds_blocks = experiment.until_decided is not None or experiment.resolution is not None
        if race is not None:
            left = unraced_blocks(prepared, names, self.out)
        else:
            left = missing_blocks(prepared, names, self.out)
        if left or (adds_blocks and race is None):
            return False
        if experiment.workload.model and lacking_models(prepared, names, self.out):
            return False
        return self.decisions.searches is None or self.decisions.searches.is_whole(prepared, names)

    async def load(self, prepared: Prepared, names: Sequence[str], runner: BlockRunner) -> None:
        """Sends the blocks of variants whose servers are up, then the loads that are not judged."""

        def is_stopped() -> bool:
            return runner.stop.is_over

        if (race := self._race(prepared, names, self.progress, is_stopped)) is not None:
            names = await self._raced_blocks(prepared, race, runner)
        else:
            await self._blocks(prepared, names, runner)
        if prepared.experiment.workload.model:
            await self._model(prepared, names, runner)
        if self.decisions.searches is not None:
            await self.decisions.searches.load(prepared, names, runner)

    def _race(
        self,
        prepared: Prepared,
        names: Sequence[str],
        progress: Progress,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> StageRace | None:
        """The race of the variants; None if there is none, or if they are not up together.

        `is_stopped`: whether the block under way is the last, so that no look may follow the next.
        """
        experiment = prepared.experiment
        if not experiment.races or len(self.plan.rounds) > 1:
            return None

        def over() -> bool:
            return is_stopped() or self._is_over(experiment)

        plan = look_plan(experiment, len(names))
        return StageRace(prepared, names, self.out, progress, plan, self.decisions.look, over)

    def _is_over(self, experiment: Experiment) -> bool:
        until = experiment.until_decided
        return until is not None and time.monotonic() - self.start > until.max_time

    async def _raced_blocks(
        self, prepared: Prepared, race: StageRace, runner: BlockRunner
    ) -> Sequence[str]:
        """Sends the blocks of a race, then those of other stages; the variants that are kept."""
        failed = runner.hosting.failed
        with self.timeline.doing("load"):
            while blocks := await asyncio.to_thread(race.next_round, failed):
                race.keep()
                await runner.run(blocks, race.words(), race.later())
            if others := unraced_blocks(prepared, race.kept, self.out):
                await runner.run(others, "what no race is about")
        race.keep()
        return race.kept

    async def _blocks(self, prepared: Prepared, names: Sequence[str], runner: BlockRunner) -> None:
        planned = await self._planned_blocks(prepared, names, runner)
        blocks = missing_blocks(prepared, names, self.out, planned)
        what = "all variants" if len(self.plan.rounds) == 1 else ", ".join(names)
        with self.timeline.doing("load", part=1 / len(self.plan.rounds)):
            await runner.run(blocks, what)
        until = prepared.experiment.until_decided
        if until is None:
            return
        for count in until.block_counts(prepared.experiment.workload.blocks):
            over = runner.stop.is_over or self._is_over(prepared.experiment)
            if over or self.decisions.settled():
                break
            more = stage_blocks(prepared, names, self.out, judged_stage(prepared.experiment), count)
            with suppress(TimeOver):  # the verdict is about the blocks that were added so far
                await runner.run(more, f"until decided, {count} blocks")

    async def _model(self, prepared: Prepared, names: Sequence[str], runner: BlockRunner) -> None:
        """Measures the step times of the variants whose servers are up."""

        async def run_load(block: LoadBlock) -> None:
            await runner.run([block], f"for the model of {block.variant}")

        live = [name for name in names if name not in runner.hosting.failed]
        models = await measure_models(prepared, live, self.out, run_load, self.progress)
        for name, model in models.items():
            if model.none is not None:
                self.progress.log(f"{name}: no model of its engine: {model.none}")

    async def _planned_blocks(
        self, prepared: Prepared, names: Sequence[str], runner: BlockRunner
    ) -> int:
        """The blocks of the judged stage: the experiment's, or planned from a pilot."""
        resolution = prepared.experiment.resolution
        if resolution is None:
            return prepared.experiment.workload.blocks
        pilot = stage_blocks(
            prepared, names, self.out, judged_stage(prepared.experiment), resolution.pilot
        )
        await runner.run(pilot, "the pilot")
        planned = self.decisions.plan_blocks()
        for sentence in (*planned.sentences, f"so there will be {planned.blocks} blocks"):
            self.progress.log(sentence)
        return planned.blocks


def unraced_blocks(
    prepared: Prepared, names: Sequence[str], out: RunDirectory
) -> list[LoadBlock | MixedBlock]:
    """The missing blocks of other stages and probes, of the variants that a race kept.

    A baseline that left is asked the probes too: the others' scores are held against its.
    """
    blocks = missing_blocks(prepared, names, out, planned=0)
    baseline = prepared.experiment.baseline
    return blocks + ([] if baseline in names else probe_blocks(prepared, [baseline], out))
