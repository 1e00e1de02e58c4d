"""A race: who leaves at which look, and what the report makes of it afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from pydantic import ValidationError

from dyno.experiment.loading import load_experiment
from dyno.experiment.schema import Experiment
from dyno.pipeline.blocks import LoadBlock
from dyno.pipeline.decide import run_inputs
from dyno.pipeline.measure import unraced_blocks
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.race import Look, StageRace, look_plan, read_race
from dyno.pipeline.variants import weights_of
from foundation.progress import Silent
from foundation.run.layout import RunDirectory
from foundation.run.records import JournalEnd, Prompt
from results.analysis import analyse
from results.analysis.race_look import look
from results.config import Probe
from results.decision.looks import LookPlan
from results.decision.verdict import judge
from results.inputs import RunInputs
from results.race import Departure, Race
from results.report.page import markdown
from results.report.race import race_sentence
from results.report.race import raced as raced_rows
from results.summary import Summary, Verdicts
from tests.dyno.conftest import emulator
from tests.dyno.stored_runs import StoredRun, dyno
from tests.dyno.test_pipeline import prepared
from tests.run_files import MS, answer, append_prompts, header, write_block

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
    for block in plan.departures:
        left = [name for name in stored.variants if name not in {d.variant for d in departed}]
        departed += look(inputs, plan, block, left, departed)
    errors = plan.errors(stored.variants, departed)
    return Raced(inputs, Race(departures=departed, errors=errors))


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


def test_the_report_says_who_was_measured_how_long(
    slow_one: Raced, decided: tuple[Summary, Verdicts], left: Departure
) -> None:
    race = structs.replace(slow_one.race, blocks_full=15, blocks_measured=12)
    summary = structs.replace(decided[0], race=race)
    rows = {row.variant: row for row in raced_rows(summary)}
    assert rows["slow"].why == f"left: {left.sentence}"
    assert rows["slow"].blocks == left.block
    assert rows["base"].why == "passed: every objective is shown to hold"
    stayed = structs.replace(race, departures=[left])
    near = raced_rows(structs.replace(summary, race=stayed))[1]
    assert (near.variant, near.why) == ("near", "measured to the end")
    page, text = markdown(summary, decided[1], None), race_sentence(summary)
    assert text == "12 of 15 blocks were measured, 20.0 % fewer than without the race"
    whole = structs.replace(race, blocks_measured=15)
    assert race_sentence(structs.replace(summary, race=whole)) == (
        "all 15 blocks were measured: no variant left early"
    )
    assert text in page
    assert raced_rows(structs.replace(summary, race=None)) == []


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


def test_a_look_sees_no_probe_and_no_failure_of_an_earlier_try(tmp_path: Path) -> None:
    """Both came after the look; `b` answers every question of the probe wrongly."""
    stored = StoredRun(
        variants=("a", "b"),
        blocks=3,
        requests=30,
        latencies={"a": 100, "b": 100},
        workload=RACE,
        sections="slo: {latency_mean: 1s}\n"
        "quality: {probes: [{name: facts, data: facts.jsonl, scorer: contains, max_drop: 10%}]}",
    )
    file = stored.write(tmp_path / "run")
    inputs = run_inputs(RunDirectory(file), load_experiment(file / "experiment.yaml"))
    facts = [Prompt(f"f{i}", "facts", {"plain": []}, "yes") for i in range(60)]
    append_prompts(file, facts)
    plan, names = LookPlan(3, 2), ["a", "b"]
    assert look(inputs, plan, 2, names, []) == []
    for name in names:
        says = "yes" if name == "a" else "no"
        records = [answer(i, f.id, i * MS, [i * MS + MS], text=says) for i, f in enumerate(facts)]
        head = header(variant=name, stage="probe-facts", block=1, concurrency=1)
        end = JournalEnd(end="complete", ended_ns=10**9, window_end_ns=10**9)
        write_block(file, head, records, end)
    assert look(inputs, plan, 2, names, []) == []
    slow_first = raced(replace(SLOW_ONE, blocks=3), tmp_path / "slow")
    (left,) = [each for each in slow_first.race.departures if each.variant == "slow"]
    failed = replace(slow_first.inputs, failed={"slow": "its server died"})
    assert left in look(failed, LookPlan(3, 3), left.block, SLOW_ONE.variants, [])


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


def leaves(at: Mapping[int, str]) -> Look:
    """A look after which the variant of that number of blocks leaves."""

    def who(plan: LookPlan, block: int, left: Sequence[str], departed: object) -> list[Departure]:
        names = [at[block]] if at.get(block) in left else []
        return [
            Departure(variant=name, block=block, reason="breaks", objective="o", sentence="s")
            for name in names
        ]

    return who


def started(of: Prepared, run: RunDirectory, look: Look, over: bool = False) -> StageRace:
    names = [variant.name for variant in of.experiment.variants]
    plan = look_plan(of.experiment, len(names))
    return StageRace(of, names, run, Silent(), plan, look, lambda: over)


def measured(race: StageRace, rounds: int = 99) -> list[list[str]]:
    """Writes the blocks of some rounds; the variants of each."""
    variants = []
    while len(variants) < rounds and (blocks := race.next_round()):
        variants.append(sorted(block.variant for block in blocks))
        for block in blocks:
            assert isinstance(block, LoadBlock)
            head = header(
                variant=block.variant,
                stage=block.stage.label,
                block=block.block,
                identity=block.identity,
            )
            end = JournalEnd(end="complete", ended_ns=MS, window_end_ns=MS, loop_stall_max_ns=0)
            write_block(race.out.path, head, [], end)
    race.keep()
    return variants


FIVE_BLOCKS: dict[str, Any] = {
    "name": "t",
    "model": "base",
    "data": {"prompt": "Hi"},
    "variants": [{"name": "base"}, {"name": "b"}, {"name": "c"}],
    "baseline": "base",
    "workload": {
        "stages": [{"name": "s", "concurrency": 1, "requests": 1}],
        "blocks": 5,
        "race": True,
    },
    "slo": {"latency_mean": "1s"},
}


def five_blocks(folder: Path, **sections: object) -> Prepared:
    of = prepared(folder)
    return replace(of, experiment=Experiment.model_validate({**FIVE_BLOCKS, **sections}))


def test_who_left_is_loaded_no_more_and_a_break_changes_nothing(tmp_path: Path) -> None:
    of, run = five_blocks(tmp_path), RunDirectory(tmp_path / "run")
    look = leaves({2: "c", 4: "b"})
    whole = [["b", "base", "c"]] * 2 + [["b", "base"]] * 2 + [["base"]]
    first = started(of, run, look)
    assert measured(first, rounds=3) == whole[:3]
    again = started(of, run, look)
    assert measured(again) == whole[3:]
    assert again.kept == ["base"]
    assert measured(started(of, run, look)) == []
    race = read_race(run, of.experiment)
    assert race is not None
    assert [(each.variant, each.block) for each in race.departures] == [("c", 2), ("b", 4)]
    assert (race.blocks_full, race.blocks_measured) == (15, 11)
    plan = LookPlan(5, 3)
    assert race.errors == {
        "base": plan.at_end(1), "b": plan.at_look(4, 2), "c": plan.at_look(2, 3)
    }  # fmt: skip


def test_scheduling_changes_no_answer_but_any_other_setting_may(tmp_path: Path) -> None:
    others: dict[str, dict[str, Any]] = {
        "fewer": {"serve": {"engine": {"max-num-seqs": 16, "compilation-config.mode": 0}}},
        "fp8": {"serve": {"engine": {"kv-cache-dtype": "fp8"}}},
        "rounded": {"serve": {"engine": {"quantization": "fp8"}}},
        "unknown": {"serve": {"engine": {"hf-overrides": {"rope_theta": 1}}}},
        "short_context": {"serve": {"max_model_len": 64}},
        "shorter": {"sampling": {"max_tokens": 8}},
    }
    of = prepared(tmp_path, *({"name": name, **keys} for name, keys in others.items()))
    weights = {v.name: weights_of(of, v) for v in of.experiment.variants}
    assert weights["fewer"] == weights["base"]
    assert len(set(weights.values())) == len(others)  # one is the same as the baseline's


@pytest.mark.parametrize(("over", "rounds"), [(False, 8), (True, 5)])
def test_a_race_until_decided_goes_on_to_its_last_look_or_its_time(
    tmp_path: Path, over: bool, rounds: int
) -> None:
    of = five_blocks(tmp_path, until_decided={"looks": 2})
    race = started(of, RunDirectory(tmp_path / "run"), leaves({5: "c"}), over)
    blocks = measured(race)
    assert len(blocks) == rounds
    assert blocks[5:] == [["b", "base"]] * (rounds - 5)
    assert race.plan.verdicts == (5, 8)


def test_a_failed_variant_holds_nobody_up(tmp_path: Path) -> None:
    race = started(five_blocks(tmp_path), RunDirectory(tmp_path / "run"), leaves({}))
    assert [block.variant for block in race.next_round({"b", "c"})] == ["base"]


def test_a_baseline_that_left_is_asked_the_probes_too(tmp_path: Path) -> None:
    of, run = five_blocks(tmp_path), RunDirectory(tmp_path / "run")
    probe = Probe(name="general", data="general.jsonl", scorer="contains")
    quality = of.experiment.quality.model_copy(update={"probes": (probe,)})
    experiment = of.experiment.model_copy(update={"quality": quality})
    question = Prompt("g", "general", {"plain": [{"role": "user", "content": "Hi"}]}, "Hi")
    of = replace(of, experiment=experiment, prompts=[*of.prompts, question])
    blocks = unraced_blocks(of, ["b"], run)
    assert [(block.variant, block.stage.label) for block in blocks] == [
        ("b", "probe-general"), ("base", "probe-general")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"variants": [{"name": "base"}]}, "a race needs two variants at least"),
        ({"workload": {"blocks": 2}}, "the first look is after two blocks, and 2 are all"),
        ({"resolution": "3%"}, "resolution measures every variant to the end"),
        ({"slo": {}}, "nothing is asked under load"),
        (
            {"workload": {"stages": [{"rate": 2, "requests": 9, "mix": "uniform"}]}},
            "rate-2 loads all variants at once",
        ),
    ],
)
def test_a_race_that_nobody_could_leave_is_refused(changes: dict[str, Any], reason: str) -> None:
    workload = {**FIVE_BLOCKS["workload"], **changes.get("workload", {})}
    with pytest.raises(ValidationError, match=f"workload.race: {reason}"):
        Experiment.model_validate({**FIVE_BLOCKS, **changes, "workload": workload})


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


@pytest.mark.slow
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
