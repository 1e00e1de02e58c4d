"""`dyno improve --max-time`: what a round takes, and what happens where it takes too long."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from dataclasses import replace as with_fields
from pathlib import Path

import msgspec
import pytest

from dyno.experiment.schema import Experiment
from dyno.improve.measured_run import MeasuredRun
from dyno.improve.next_round import PlannedRound
from dyno.improve.round_time import load_seconds, round_seconds
from dyno.improve.rounds import ImproveLimits, Rounds, exit_of, planner_of
from foundation.errors import BadInput, Exit
from foundation.run.layout import IMPROVE_FILE, RunDirectory
from results.decision.improvement.record import Improvement
from tests.dyno.test_improve import SEEDS, TRUTH

LATE = TRUTH | {"better": 700.0}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUNEDYNO_CACHE", str(tmp_path / "cache"))


@dataclass
class Machine:
    """A machine with a clock of its own: each new variant of a round takes `each` seconds.

    `cuts`: the round that does not end before the limit, if any.
    """

    each: float
    cuts: int | None = None
    now: float = 0.0
    measured: list[list[str]] = field(default_factory=list)

    def seconds_of(
        self, planned: PlannedRound, where: Path, run: MeasuredRun, earlier: Sequence[RunDirectory]
    ) -> float:
        return self.each * len(planned.new)

    def measure(
        self, experiment: Experiment, where: Path, at: RunDirectory, earlier: Sequence[RunDirectory]
    ) -> MeasuredRun:
        names = [variant.name for variant in experiment.variants]
        self.measured.append(names)
        if at.path.name == f"round-{self.cuts}":
            at.experiment.write_text(experiment.as_yaml())
            self.now += 3600.0
            raise KeyboardInterrupt
        self.now += self.each * (len(names) - 2)
        at.experiment.unlink(missing_ok=True)
        at.path.rmdir()
        with_fields(SEEDS, variants=names, latencies=LATE, sections="").write(at.path)
        at.experiment.write_text(experiment.as_yaml())
        return MeasuredRun.read(at)


def improved(run: Path, machine: Machine, seconds: float) -> Improvement:
    return Rounds(
        MeasuredRun.read(RunDirectory(run)),
        ImproveLimits(rounds=3, seconds=seconds),
        log=lambda line: None,
        show=lambda round_: None,
        measure=machine.measure,
        seconds_of=machine.seconds_of,
        clock=lambda: machine.now,
    ).run()


def test_a_round_that_does_not_fit_is_smaller_and_one_that_can_not_is_not_begun(
    tmp_path: Path,
) -> None:
    run, machine = SEEDS.write(tmp_path / "run"), Machine(each=120.0)
    record = improved(run, machine, 180.0)
    assert machine.measured == [["base", "tuned", "better"]]  # the best expectation alone
    [skipped] = [each for each in record.rounds[0].skipped if "with it" in each.why]
    assert skipped.why == "with it the round takes about 4 min, and 3 min of 3 min are left"
    assert (record.ending, exit_of(record)) == ("time over", Exit.INCONCLUSIVE)
    assert "the next round takes about 2 min, and 60 s of 3 min are left" in record.sentence
    assert "go on with a larger --max-time" in record.sentence


def test_the_first_round_is_not_begun_either(tmp_path: Path) -> None:
    run, machine = SEEDS.write(tmp_path / "run"), Machine(each=120.0)
    record = improved(run, machine, 100.0)
    assert (record.ending, record.rounds, machine.measured) == ("time over", [], [])
    assert "takes about 2 min, and 2 min of 2 min are left" in record.sentence


def test_a_round_that_is_cut_off_is_kept_and_goes_on(tmp_path: Path) -> None:
    run, machine = SEEDS.write(tmp_path / "run"), Machine(each=60.0, cuts=1)
    record = improved(run, machine, 600.0)
    assert (record.ending, exit_of(record)) == ("time over", Exit.INCONCLUSIVE)
    assert "the time is over (10 min) in round 1, which is kept" in record.sentence
    assert [each.headline for each in record.rounds] == [None]
    assert msgspec.json.decode((run / IMPROVE_FILE).read_bytes(), type=Improvement) == record
    machine.cuts = None
    record = improved(run, machine, 600.0)
    assert machine.measured[0] == machine.measured[1]
    assert record.rounds[0].headline is not None and record.ending == "reconsider"


def test_ctrl_c_before_the_time_is_over_ends_the_command(tmp_path: Path) -> None:
    run, machine = SEEDS.write(tmp_path / "run"), Machine(each=60.0, cuts=1)
    with pytest.raises(KeyboardInterrupt):
        improved(run, machine, 36_000.0)
    stored = msgspec.json.decode((run / IMPROVE_FILE).read_bytes(), type=Improvement)
    assert stored.ending is None and len(stored.rounds) == 1


def test_a_load_takes_what_the_blocks_of_the_run_took(tmp_path: Path) -> None:
    """A new variant counts as the one that it changes."""
    run = SEEDS.write(tmp_path / "run")
    ends = {
        name: [json.loads(file.read_text().splitlines()[-1])["ended_ns"] for file in files]
        for name in ("base", "tuned")
        if (files := sorted((run / "load" / name / "main").iterdir()))
    }
    first = MeasuredRun.read(RunDirectory(run))
    planned = planner_of(first).next(first, 1, 600.0)
    assert planned is not None and len(planned.new) == 2 and len(ends["tuned"]) == 4
    expected = (sum(ends["base"]) + 3 * sum(ends["tuned"])) / 1e9
    assert load_seconds(planned, first) == pytest.approx(expected)


def test_servers_elsewhere_need_no_start(tmp_path: Path) -> None:
    run = SEEDS.write(tmp_path / "run")
    first = MeasuredRun.read(RunDirectory(run))
    planned = planner_of(first).next(first, 1, 600.0)
    assert planned is not None
    with pytest.raises(BadInput, match=r"questions\.jsonl"):
        round_seconds(planned, run, first, [first.directory])
    rows = [json.dumps({"prompt": f"Is {i} a number?", "completion": "yes"}) for i in range(9)]
    (run / "questions.jsonl").write_text("\n".join(rows) + "\n")
    took = round_seconds(planned, run, first, [first.directory])
    assert took == load_seconds(planned, first) > 0
