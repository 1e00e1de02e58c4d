"""A race: who leaves at which look, and what the report makes of it afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from msgspec import structs

from dyno.experiment.loading import load_experiment
from dyno.pipeline.decide import run_inputs
from dyno.pipeline.race import look_plan
from foundation.run.layout import RunDirectory
from results.analysis import analyse
from results.analysis.race_look import look
from results.decision.looks import LookPlan
from results.decision.verdict import judge
from results.inputs import RunInputs
from results.race import Departure, Race
from results.summary import Summary, Verdicts
from tests.dyno.conftest import emulator
from tests.dyno.stored_runs import StoredRun, dyno

RACE = ", race: true"


@dataclass(frozen=True)
class Raced:
    """A stored run with all its blocks, and the race that it would have been."""

    inputs: RunInputs
    race: Race

    def decided(self, race: Race | None) -> tuple[Summary, Verdicts]:
        inputs = replace(self.inputs, race=race)
        summary = analyse(inputs)
        return summary, judge(summary, inputs)


def raced(stored: StoredRun, folder: Path) -> Raced:
    """Takes every look of a run whose blocks are all there."""
    run = RunDirectory(stored.write(folder))
    experiment = load_experiment(run.experiment)
    inputs, plan = run_inputs(run, experiment), look_plan(experiment, len(stored.variants))
    inputs = replace(inputs, variants=[structs.replace(v, weights="w") for v in inputs.variants])
    departed: list[Departure] = []
    errors = {}
    for block in plan.departures:
        left = [name for name in stored.variants if name not in {d.variant for d in departed}]
        broken = sum(each.reason == "breaks" for each in departed)
        leaving = look(inputs, plan, block, left, departed)
        errors |= {d.variant: plan.at_look(block, plan.variants - broken) for d in leaving}
        departed += leaving
    broken = sum(each.reason == "breaks" for each in departed)
    at_end = plan.at_end(plan.variants - broken)
    everybody = {name: errors.get(name, at_end) for name in stored.variants}
    return Raced(inputs, Race(departures=departed, errors=everybody))


SLOW_ONE = StoredRun(
    variants=("base", "near", "slow"),
    blocks=5,
    requests=30,
    latencies={"base": 200, "near": 270, "slow": 420},
    workload=RACE,
    sections="slo: {latency_mean: 300ms, latency_p50: 1.8x}",
)
"""`slow` breaks its limits at once; the others keep them, by far and just so."""


@pytest.fixture(scope="module")
def slow_one(tmp_path_factory: pytest.TempPathFactory) -> Raced:
    return raced(SLOW_ONE, tmp_path_factory.mktemp("race") / "run")


@pytest.fixture(scope="module")
def decided(slow_one: Raced) -> tuple[Summary, Verdicts]:
    return slow_one.decided(slow_one.race)


@pytest.fixture
def left(slow_one: Raced) -> Departure:
    """When and why `slow` left."""
    return next(each for each in slow_one.race.departures if each.variant == "slow")


def test_a_slow_variant_leaves_and_the_decision_is_the_same_as_without_a_race(
    slow_one: Raced, decided: tuple[Summary, Verdicts], left: Departure
) -> None:
    assert (left.reason, left.objective) == ("breaks", "latency mean")
    assert left.block < 5
    _, without = slow_one.decided(None)
    assert [v.decision for v in decided[1].variants] == [v.decision for v in without.variants]
    assert decided[1].recommended == without.recommended


def test_the_verdict_on_one_that_left_is_that_of_its_look(
    decided: tuple[Summary, Verdicts], left: Departure
) -> None:
    summary, verdicts = decided
    verdict = next(each for each in verdicts.variants if each.variant == "slow")
    binding = next(o for o in verdict.objectives if o.label == verdict.binding)
    assert binding.sentence == left.sentence
    assert verdict.reasons[0] == f"it left the race after block {left.block}: {left.sentence}"
    stage = next(v for v in summary.variants if v.variant == "slow").at_judged_stage
    assert stage is not None
    assert stage.blocks == left.block


def test_later_blocks_change_nothing_for_one_that_left(
    slow_one: Raced, decided: tuple[Summary, Verdicts], left: Departure, tmp_path: Path
) -> None:
    """The oracle has no later block: neither the variant's, nor the baseline's."""
    cut = replace(SLOW_ONE, blocks=left.block).write(tmp_path / "run")
    inputs = run_inputs(RunDirectory(cut), load_experiment(cut / "experiment.yaml"))
    short = analyse(replace(inputs, race=Race(errors=slow_one.race.errors)))
    ours, oracle = (
        next(v for v in summary.variants if v.variant == "slow").at_judged_stage
        for summary in (decided[0], short)
    )
    assert ours is not None
    assert oracle is not None
    assert ours.judged == oracle.judged
    differs = {key: change.absolute for key, change in ours.differences.items()}
    assert differs == {key: change.absolute for key, change in oracle.differences.items()}


def test_a_look_sees_no_later_block(slow_one: Raced, left: Departure) -> None:
    """So a race that goes on after a break repeats its departures."""
    plan = LookPlan(SLOW_ONE.blocks, len(SLOW_ONE.variants))
    assert left in look(slow_one.inputs, plan, left.block, SLOW_ONE.variants, [])


def test_the_slower_of_two_that_pass_leaves_as_worse_and_the_baseline_may(tmp_path: Path) -> None:
    """Nothing is asked relative to the baseline `b`; differences are of the blocks of both."""
    stored = StoredRun(
        variants=("b", "a"),
        blocks=5,
        requests=30,
        latencies={"a": 100, "b": 140},
        workload=RACE,
        sections="slo: {latency_p95: 10s}",
    )
    both = raced(stored, tmp_path / "run")
    (worse,) = [each for each in both.race.departures if each.reason == "worse"]
    assert (worse.variant, worse.than) == ("b", "a")
    summary, verdicts = both.decided(both.race)
    assert "worse than a in latency mean" in verdicts.variants[0].headline
    stage = summary.variants[1].at_judged_stage
    assert stage is not None
    assert stage.blocks == 5
    assert stage.differences["latency_mean"].absolute.n == worse.block
    assert not any("left out of the comparison" in note for note in stage.notes)


EXPERIMENT = """\
name: raced
model: m
data: {{prompt: "Say hello"}}
variants: [{{name: quick, url: {quick}, model: m}}, {{name: slow, url: {slow}, model: m}}]
baseline: quick
workload: {{stages: [{{concurrency: 30, requests: 30, warmup: 0s}}], blocks: 4, race: true}}
slo: {{latency_mean: 900ms}}
"""


@pytest.fixture(scope="module")
def urls() -> Iterator[tuple[str, str]]:
    """Servers that answer in 0.2 s and in 1.5 s."""
    quick, slow = (["--ttft", ttft, "--tokens", "2"] for ttft in ("200ms", "1500ms"))
    with emulator(quick) as first, emulator(slow) as second:
        yield first, second


def test_a_race_that_goes_on_makes_the_same_departures(
    urls: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "raced.yaml").write_text(EXPERIMENT.format(quick=urls[0], slow=urls[1]))
    monkeypatch.chdir(tmp_path)
    code, *printed = dyno(capsys, monkeypatch, "run", "raced.yaml")
    run = RunDirectory(tmp_path / "runs/raced")
    assert code == 0, printed
    race = json.loads(run.race.read_text())
    (left,) = [each for each in race["departures"] if each["variant"] == "slow"]
    assert left["reason"] == "breaks"
    assert f"slow leaves the race after block {left['block']}: latency mean" in "".join(printed)
    last = run.journal("slow", "concurrency-30", left["block"])
    assert last.is_file()
    assert not run.journal("slow", "concurrency-30", left["block"] + 1).exists()
    for file in (run.race, run.journal("quick", "concurrency-30", 4)):
        file.unlink(missing_ok=True)
    code, *printed = dyno(capsys, monkeypatch, "run", "--resume", "runs/raced")
    assert code == 0, printed
    assert left in json.loads(run.race.read_text())["departures"]
    assert run.journal("quick", "concurrency-30", 4).is_file()
