"""The judged stage as a race: after each round of blocks, a look says who is loaded no more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from dyno.experiment.schema import Experiment
from dyno.pipeline.blocks import LoadBlock, MixedBlock, numbered_blocks
from dyno.pipeline.prepared import Prepared
from foundation.errors import BadInput
from foundation.format import argument
from foundation.progress import Progress
from foundation.run.journal import Damage, journal_files
from foundation.run.json_files import read_json, write_json
from foundation.run.layout import RunDirectory
from loadgen.config import Stage
from results.decision.looks import LookPlan
from results.race import Departure, Race

Look = Callable[[LookPlan, int, Sequence[str], Sequence[Departure]], list[Departure]]
"""Who leaves, from the plan, the number of blocks, the variants left, and who left before."""


@dataclass
class StageRace:
    """The rounds of the judged stage. A round is one block of each variant that is left.

    What the journals hold is replayed with the same looks, so a race that was interrupted goes on
    as if nothing had happened. `look`: judges the blocks so far. `over`: whether the next look
    that may be the last is the last.
    """

    prepared: Prepared
    names: Sequence[str]
    out: RunDirectory
    progress: Progress
    plan: LookPlan
    look: Look
    over: Callable[[], bool]
    departed: list[Departure] = field(default_factory=list)
    _block: int = 1

    def next_round(self, failed: Collection[str] = ()) -> list[LoadBlock | MixedBlock]:
        """The missing blocks of the next round, empty at the end of the race.

        It takes every look on the way. `failed`: variants whose server failed.
        """
        while self._block <= self.plan.last and (left := self._left(failed)):
            if missing := self._missing(left):
                return missing
            if self._block in self.plan.departures:
                self._take_look(left)
            if self._block in self.plan.verdicts and self.over():
                break
            self._block += 1
        self._block = self.plan.last + 1
        return []

    @property
    def kept(self) -> list[str]:
        """The variants that are measured on: those that are left, and those that are settled."""
        lost = {each.variant for each in self.departed if each.is_lost}
        return [name for name in self.names if name not in lost]

    def words(self) -> str:
        """The round, as a progress bar names it."""
        left = len(self._left(()))
        return f"race, round {self._block} of {self.plan.last} at most, {left} variants left"

    def later(self) -> list[tuple[str, str]]:
        """Variant and stage of the blocks that follow this round if nobody leaves."""
        rounds = max(self.plan.blocks - self._block, 0)
        return [(name, self._stage.label) for name in self._left(())] * rounds

    def keep(self) -> None:
        """Writes `race.json`."""
        workload = self.prepared.experiment.workload
        stages = [stage.label for stage in workload.stages]
        measured = {
            (name, label): len(journal_files(self.out.journal(name, label, 1).parent))
            for name in self.names
            for label in stages
        }
        judged = max(self.plan.blocks, *(measured[name, self._stage.label] for name in self.names))
        each = judged + workload.blocks * (len(stages) - 1)
        record = Race(
            departures=self.departed,
            errors=self.plan.errors(self.names, self.departed),
            blocks_full=each * len(self.names),
            blocks_measured=sum(measured.values()),
        )
        write_json(record, self.out.race)

    @property
    def _stage(self) -> Stage:
        return judged_stage(self.prepared.experiment)

    def _left(self, failed: Collection[str]) -> list[str]:
        gone = {*(each.variant for each in self.departed), *failed}
        return [name for name in self.names if name not in gone]

    def _missing(self, left: Sequence[str]) -> list[LoadBlock | MixedBlock]:
        numbers = range(self._block, self._block + 1)
        blocks = numbered_blocks(self.prepared, self.names, self.out, self._stage, numbers)
        return [block for block in blocks if block.variant in left]

    def _take_look(self, left: Sequence[str]) -> None:
        leaving = self.look(self.plan, self._block, left, self.departed)
        for each in leaving:
            self.progress.log(
                f"{each.variant} leaves the race after block {each.block}: {each.sentence}"
            )
        self.departed += leaving


def look_plan(experiment: Experiment, variants: int) -> LookPlan:
    """The looks of an experiment's race, with those of `until_decided`."""
    blocks, until = experiment.workload.blocks, experiment.until_decided
    return LookPlan(blocks, variants, tuple(until.block_counts(blocks)) if until else ())


def judged_stage(experiment: Experiment) -> Stage:
    """The stage that the verdict is about."""
    stages = experiment.workload.stages
    return next(stage for stage in stages if stage.label == experiment.judged_stage)


def read_race(out: RunDirectory, experiment: Experiment) -> Race | None:
    """Who left a run's race so far; None without a race.

    Raises BadInput for a damaged file, and for one that is not of the experiment.
    """
    race = read_json(out.path, out.race.name, Race) if experiment.races else None
    why = race.why if isinstance(race, Damage) else race and _why_wrong(race, experiment)
    if why:
        raise BadInput(
            f"{out.race}: {why}; `dyno run --resume {argument(out.path)}` writes it again"
        )
    assert not isinstance(race, Damage)
    return race


def _why_wrong(race: Race, experiment: Experiment) -> str | None:
    """Why no race of the experiment can have left this record; None if one can."""
    names = [variant.name for variant in experiment.variants]
    plan = look_plan(experiment, len(names))
    left = [each.variant for each in race.departures]
    if not set(left) <= set(names) or len(set(left)) < len(left):
        return "a variant that left is not of the experiment, or left twice"
    if any(each.block not in plan.departures for each in race.departures):
        return "a variant left where no look is"
    if race.errors != plan.errors(names, race.departures):
        return "the errors are not those of its looks"
    return None
