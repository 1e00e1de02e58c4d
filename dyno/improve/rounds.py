"""The rounds of `dyno improve`: choose, build, measure, learn, until one ships or nothing is left.

Each round is a run of its own in `RUN/improve/round-N`. It measures the baseline and the variant
that is changed again, beside the new ones and block by block, so that what the machine does in
between counts for none of them. What was measured in earlier rounds decides only what comes next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from dyno.experiment.loading import load_experiment
from dyno.experiment.schema import Experiment
from dyno.improve.effects import with_effects
from dyno.improve.experience import keep_effects, read_effects
from dyno.improve.measured_run import MeasuredRun, check_run, measure_run
from dyno.improve.next_round import PlannedRound, RoundPlanner
from dyno.improve.replicas import replicas_words
from dyno.improve.round_experiment import made_as
from dyno.improve.round_time import round_seconds
from dyno.improve.time_limit import interrupted_after
from dyno.terminal.gate import gate_of
from foundation.errors import BadInput, Exit
from foundation.run.journal import Damage
from foundation.run.json_files import read_json, write_json
from foundation.run.layout import IMPROVE_FILE, RunDirectory, round_folder
from results.decision.improvement import endings
from results.decision.improvement.choice import nearest_first
from results.decision.improvement.expectation import RULE, effects_of
from results.decision.improvement.record import (
    Ending,
    Improvement,
    ImproveRound,
)
from results.summary import VariantVerdict

Measure = Callable[[Experiment, Path, RunDirectory, Sequence[RunDirectory]], MeasuredRun]
RoundSeconds = Callable[[PlannedRound, Path, MeasuredRun, Sequence[RunDirectory]], float]
_EXITS: dict[Ending | None, Exit] = {"ships": Exit.DONE, "reconsider": Exit.DONT_SHIP}


def exit_of(improvement: Improvement) -> Exit:
    """The exit code: 0 where a variant ships, 1 to reconsider, 2 where it is not settled."""
    return _EXITS.get(improvement.ending, Exit.INCONCLUSIVE)


@dataclass(frozen=True, kw_only=True)
class ImproveLimits:
    """When to stop: after so many rounds, or so many seconds of them all."""

    rounds: int
    seconds: float


def shipping(run: MeasuredRun) -> VariantVerdict | None:
    """The verdict on the variant that may ship; None without one."""
    if gate_of(run.summary, run.verdicts).code is not Exit.DONE:
        return None
    recommended = run.verdicts.recommended
    return next(each for each in run.verdicts.variants if each.variant == recommended)


def check_improvable(run: MeasuredRun) -> None:
    """Raises BadInput for a run by whose verdicts no remedy can be chosen."""
    path, validity = run.directory.path, run.summary.validity
    if validity.level == "INVALID":
        reason = next((r for r in validity.reasons if "INVALID" in r), validity.reasons[0])
        raise BadInput(
            f"{path}: its measurement is INVALID ({reason}), and no remedy can be chosen by it; "
            "measure it again"
        )
    if not any(verdict.objectives for verdict in run.verdicts.variants):
        raise BadInput(
            f"{run.directory.experiment}: nothing is asked, so nothing binds; write slo, quality "
            "or budget"
        )


def planner_of(first: MeasuredRun) -> RoundPlanner:
    """A planner that knows the variants of a run, and what was measured on this machine."""
    known = {variant.name: variant for variant in first.experiment.variants}
    return RoundPlanner(first, known, read_effects(first.directory.path.resolve()))


@dataclass
class Rounds:
    """The rounds on one run.

    `show` prints a round when it is planned and when it is measured, `log` a line. `measure` runs
    an experiment: its folder for relative paths, its run directory, and earlier runs. `seconds_of`
    says how long a round takes. `clock` returns seconds.
    """

    first: MeasuredRun
    limits: ImproveLimits
    log: Callable[[str], None]
    show: Callable[[ImproveRound], None]
    measure: Measure = measure_run
    seconds_of: RoundSeconds = round_seconds
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.start = self.clock()
        self.latest = self.first
        self.planner = planner_of(self.first)
        self.record = self._stored()

    def run(self) -> Improvement:
        """Runs the rounds that are left, and returns how it ended."""
        self._read_rounds()
        while self.record.ending is None:
            self._step()
        return self.record

    def _stored(self) -> Improvement:
        run = self.first.directory
        stored = read_json(run.path, IMPROVE_FILE, Improvement)
        if isinstance(stored, Damage):
            raise BadInput(
                f"{run.improve}: {stored.why}; move it and {run.rounds} away to begin again"
            )
        if stored is None:
            return Improvement(
                name=self.first.experiment.name, first=self.first.verdicts.headline, rule=RULE
            )
        for place, each in enumerate(stored.rounds, start=1):
            if each.folder != round_folder(place):
                raise BadInput(
                    f"{run.improve}: round {place} says that it lies in {each.folder}, "
                    f"not in {round_folder(place)}"
                )
        return replace(stored, ending=None, sentence="", skipped=[], replicas=None)

    def _read_rounds(self) -> None:
        """Reads the rounds that are measured, and finishes one that was cut off."""
        rounds, self.record = self.record.rounds, replace(self.record, rounds=[])
        for each in rounds:
            directory = RunDirectory(self.first.directory.path / each.folder)
            if not directory.experiment.is_file():
                break  # it was never begun, so it is planned again
            if each.headline is None:
                self.log(f"round {each.number}: goes on")
                self._measure(each, PlannedRound(each, load_experiment(directory.experiment), ()))
                break  # none came after it
            self._learn(each, MeasuredRun.read(directory))

    def _step(self) -> None:
        """Ends, or plans and measures a round."""
        done = len(self.record.rounds)
        if (verdict := shipping(self.latest)) is not None:
            self._end("ships", endings.ships(verdict, done), ships=verdict.variant)
            return
        left = self._left()
        planned = self.planner.next(self.latest, done + 1, max(left, 0.0))
        if planned is None:
            self._end_with_nothing_left()
        elif left <= 0:
            self._stop_early("time over", endings.time_over(self.limits.seconds), planned.record)
        elif done >= self.limits.rounds:
            self._stop_early("rounds over", "the rounds are over", planned.record)
        else:
            self._begin(planned, left)

    def _left(self) -> float:
        """The seconds that are left of the limit."""
        return self.limits.seconds - (self.clock() - self.start)

    def _begin(self, planned: PlannedRound, left: float) -> None:
        """Tries a round, less the remedies that `left` seconds are too few for."""
        needed = self._needed(planned)
        while needed > left and len(planned.new) > 1:
            why = endings.too_long(needed, left, self.limits.seconds, "with it the round")
            planned = planned.without_last(why)
            needed = self._needed(planned)
        if needed > left:
            why = endings.too_long(needed, left, self.limits.seconds)
            self._stop_early("time over", why, planned.record)
        else:
            self._try(planned)

    def _needed(self, planned: PlannedRound) -> float:
        """The seconds that a round takes; none for one that can't be run, which says so itself."""
        try:
            return self.seconds_of(
                planned, self.first.directory.path.resolve(), self.latest, self._earlier
            )
        except BadInput:
            return 0.0

    def _try(self, planned: PlannedRound) -> None:
        """Measures a round, or remembers why it can't be."""
        self._write(replace(self.record, rounds=[*self.record.rounds, planned.record]))
        self.show(planned.record)
        self.record = replace(self.record, rounds=self.record.rounds[:-1])
        try:
            self._measure(planned.record, planned)
        except BadInput as error:
            self._refuse(planned, error)

    @property
    def _earlier(self) -> list[RunDirectory]:
        """The run and its measured rounds."""
        path = self.first.directory.path
        return [
            self.first.directory,
            *(RunDirectory(path / each.folder) for each in self.record.rounds),
        ]

    def _measure(self, record: ImproveRound, planned: PlannedRound) -> None:
        """Measures a round, up to the end of the limit."""
        path = self.first.directory.path
        directory = RunDirectory(path / record.folder)
        directory.path.mkdir(parents=True, exist_ok=True)
        try:
            with interrupted_after(self._left()):
                run = self.measure(planned.experiment, path.resolve(), directory, self._earlier)
        except KeyboardInterrupt:
            if self._left() > 0:
                raise
            self._cut_off(record)
            return
        measured = with_effects(record, run)
        keep_effects(effects_of(measured), path.resolve())
        self._learn(measured, run)
        self._write(self.record)
        self.show(measured)

    def _cut_off(self, record: ImproveRound) -> None:
        """The time was over in a round. It stays in the record, and goes on the next time."""
        self.record = replace(self.record, rounds=[*self.record.rounds, record])
        why = f"{endings.time_over(self.limits.seconds)} in round {record.number}, which is kept"
        self._stop_early("time over", why, record)

    def _learn(self, record: ImproveRound, run: MeasuredRun) -> None:
        self.record = replace(self.record, rounds=[*self.record.rounds, record])
        self.planner.effects += effects_of(record)
        self.planner.known |= {variant.name: variant for variant in run.experiment.variants}
        self.latest = run

    def _refuse(self, planned: PlannedRound, error: BadInput) -> None:
        """Remembers which variants can't be built here. Raises the error where it is none."""
        path, reasons = self.first.directory.path, {}
        for variant in planned.new:
            stood = [v for v in planned.experiment.variants if v not in planned.new]
            alone = planned.experiment.model_copy(update={"variants": (*stood, variant)})
            if len(planned.new) == 1:
                reasons[made_as(variant)] = str(error)
            elif why := check_run(alone, path.resolve()):
                reasons[made_as(variant)] = why
        if not reasons:
            raise error
        self.planner.refused |= reasons

    def _stop_early(self, ending: Ending, why: str, following: ImproveRound) -> None:
        """Time or rounds are over. `following`: the round that would have come next."""
        nearest = nearest_first(self.latest.summary, self.latest.verdicts)[0]
        self._end(ending, endings.stopped_early(ending, why, following, nearest))

    def _end_with_nothing_left(self) -> None:
        nearest = nearest_first(self.latest.summary, self.latest.verdicts)
        if not nearest:
            self._end(*endings.nothing_to_improve(self.latest.verdicts))
            return
        replicas = replicas_words(self.latest, nearest[0])
        ending, sentence = endings.nothing_left(nearest[0], self.record.rounds, replicas)
        self.record = replace(self.record, replicas=replicas, skipped=self.planner.skipped)
        self._end(ending, sentence)

    def _end(self, ending: Ending, sentence: str, ships: str | None = None) -> None:
        self._write(replace(self.record, ending=ending, sentence=sentence, ships=ships))

    def _write(self, record: Improvement) -> None:
        self.record = record
        write_json(record, self.first.directory.improve)
