"""`dyno improve` from its first verdict to its end; what is measured has known latencies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from dyno.commands.improve import improve_limits
from dyno.experiment.loading import load_experiment
from dyno.experiment.schema import Experiment
from dyno.improve.experience import effects_file, read_effects
from dyno.improve.measured_run import MeasuredRun
from dyno.improve.rounds import (
    ImproveLimits,
    Measure,
    Rounds,
    check_improvable,
    exit_of,
    planner_of,
)
from dyno.pipeline.variants import kind
from foundation.errors import BadInput, Exit
from foundation.run.layout import IMPROVE_FILE, RunDirectory
from foundation.run.records import VariantRecord
from quantize.methods import METHODS
from results.decision.improvement.record import Improvement
from results.report.improvement import improvement_section
from tests.dyno.conftest import emulator
from tests.dyno.stored_runs import StoredRun
from tests.dyno.test_cli import dyno

SECTIONS = """\
slo: {latency_p90: 400ms}
improve:
  candidates:
    - {name: worse, url: "http://127.0.0.1:1/v1", model: m1}
    - {name: better, url: "http://127.0.0.1:1/v1", model: m2, expected: 0.5}
    - {name: other, url: "http://127.0.0.1:1/v1", model: m3}
"""
TRUTH = {"base": 500.0, "tuned": 800.0, "better": 350.0, "worse": 790.0, "other": 900.0}
SEEDS = StoredRun(
    variants=("base", "tuned"),
    latencies=TRUTH,
    sections=SECTIONS,
    blocks=4,
    requests=30,
    spread=0.02,
)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUNEDYNO_CACHE", str(tmp_path / "cache"))


def rounds(
    run: Path, truth: Mapping[str, float], most: int = 3, seconds: float = 600.0
) -> tuple[Improvement, list[Experiment]]:
    """Improves a stored run; a round finds each variant's latency in `truth`, in ms."""
    experiments: list[Experiment] = []

    def measure(
        experiment: Experiment, where: Path, at: RunDirectory, earlier: Sequence[RunDirectory]
    ) -> MeasuredRun:
        experiments.append(experiment)
        at.path.rmdir()
        names = [variant.name for variant in experiment.variants]
        replace(SEEDS, variants=names, latencies=truth, sections="").write(at.path)
        at.experiment.write_text(experiment.as_yaml())
        return MeasuredRun.read(at)

    first = MeasuredRun.read(RunDirectory(run))
    check_improvable(first)
    limits = ImproveLimits(rounds=most, seconds=seconds)
    return steps(first, limits, measure).run(), experiments


def steps(first: MeasuredRun, limits: ImproveLimits, measure: Measure) -> Rounds:
    """Rounds that print nothing, and that take no time."""
    return Rounds(
        first,
        limits,
        log=lambda line: None,
        show=lambda round_: None,
        measure=measure,
        seconds_of=lambda *round_: 0.0,
    )


def test_the_best_expectation_is_tried_and_ships(tmp_path: Path) -> None:
    record, [experiment] = rounds(SEEDS.write(tmp_path / "run"), TRUTH)
    assert (record.ending, record.ships, exit_of(record)) == ("ships", "better", Exit.DONE)
    names = [variant.name for variant in experiment.variants]
    assert names == ["base", "tuned", "better", "worse"]  # two a round, beside what stood before
    better, worse = record.rounds[0].tried
    assert better.measured is not None and better.measured.value is not None
    assert pytest.approx(better.measured.value, rel=0.03) == 350 / 800
    assert better.measured.low is not None and better.measured.low < better.measured.value
    assert better.error == pytest.approx(better.measured.value / 0.5 - 1)
    assert (worse.expected, worse.error, worse.decision) == (None, None, "DON'T SHIP")
    stored = msgspec.json.decode((tmp_path / "run" / IMPROVE_FILE).read_bytes(), type=Improvement)
    assert stored == record
    section = improvement_section(tmp_path / "run")
    assert section is not None and "x 0.50" in section.rounds[0].rows[0]
    again = load_experiment(tmp_path / "run" / "improve" / "round-1" / "experiment.yaml")
    assert again == experiment.model_copy(update={"variants": again.variants})


def test_a_variant_that_keeps_its_limits_and_gains_nothing_is_to_be_reconsidered(
    tmp_path: Path,
) -> None:
    gainless = replace(SEEDS, latencies={"base": 200.0, "tuned": 300.0})
    record, experiments = rounds(gainless.write(tmp_path / "run"), TRUTH)
    assert (record.ending, exit_of(record), experiments) == ("reconsider", Exit.DONT_SHIP, [])
    assert record.sentence.startswith("Reconsider: Keep base: it meets every objective; tuned")


def test_nothing_helps_and_the_end_asks_to_reconsider(tmp_path: Path) -> None:
    truth = TRUTH | {"better": 700.0}
    record, experiments = rounds(SEEDS.write(tmp_path / "run"), truth)
    assert (record.ending, exit_of(record)) == ("reconsider", Exit.DONT_SHIP)
    assert len(experiments) == 2  # the third candidate alone, then nothing
    for words in ("Reconsider", "better (latency p90 x 0.8", "breaks its limit", "another model"):
        assert words in record.sentence
    assert any("people" in each.why for each in record.skipped)


def test_rounds_and_time_end_it_and_it_goes_on_where_it_was(tmp_path: Path) -> None:
    truth, run = TRUTH | {"better": 700.0}, SEEDS.write(tmp_path / "run")
    record, experiments = rounds(run, truth, most=1)
    assert (record.ending, exit_of(record)) == ("rounds over", Exit.INCONCLUSIVE)
    assert "Take other" in record.sentence and len(experiments) == 1
    record, experiments = rounds(run, truth, most=3, seconds=0.0)
    assert record.ending == "time over" and not experiments
    record, experiments = rounds(run, truth, most=3)
    assert record.ending == "reconsider" and len(experiments) == 1
    assert [each.number for each in record.rounds] == [1, 2]


def test_rounds_that_are_over_before_it_is_settled_say_how_many_blocks_are_left(
    tmp_path: Path,
) -> None:
    near = replace(SEEDS, latencies=TRUTH | {"tuned": 389.0}, sections="slo: {latency_p90: 400ms}")
    run = near.write(tmp_path / "run")
    record = rounds(run, TRUTH, seconds=0.0)[0]
    assert record.ending == "time over" and "measure longer, in " in record.sentence


@pytest.mark.parametrize("folder", ["../elsewhere", "improve/round-2"])
def test_a_round_is_read_from_its_own_folder_alone(tmp_path: Path, folder: str) -> None:
    run = SEEDS.write(tmp_path / "run")
    rounds(run, TRUTH | {"better": 700.0}, most=1)
    file = run / IMPROVE_FILE
    file.write_text(file.read_text().replace("improve/round-1", folder))
    with pytest.raises(BadInput, match=f"says that it lies in {folder}"):
        rounds(run, TRUTH)


def test_a_cache_of_absurd_effects_changes_nothing(tmp_path: Path) -> None:
    run, numbers = SEEDS.write(tmp_path / "run"), ("1e300", "1e-300", "0.0", "-1.0", "NaN", "1e999")
    effects = [
        f'{{"run": "a", "effect": {{"kind": "merge", "about": "latency", '
        f'"expected": {expected}, "measured": {measured}}}}}\n'
        for pair in [(number, "0.5") for number in numbers] + [("1e300", "1e-300")]
        for expected, measured in (pair, pair[::-1])
    ]
    effects_file().parent.mkdir(parents=True)
    effects_file().write_text("".join([*effects, "half a li"]))
    assert read_effects(run) == []
    effects_file().unlink()
    effects_file().mkdir()
    assert read_effects(run) == []


def test_a_run_that_ships_needs_no_round_and_an_invalid_one_is_refused(tmp_path: Path) -> None:
    ships = replace(SEEDS, latencies=TRUTH | {"tuned": 300.0}).write(tmp_path / "ships")
    record, experiments = rounds(ships, TRUTH)
    assert (record.ending, record.ships, experiments) == ("ships", "tuned", [])
    late = replace(SEEDS, slip=2000.0).write(tmp_path / "late")
    with pytest.raises(BadInput, match="INVALID"):
        rounds(late, TRUTH)
    asked = replace(SEEDS, sections="").write(tmp_path / "asked")
    with pytest.raises(BadInput, match="nothing is asked"):
        rounds(asked, TRUTH)


@pytest.mark.parametrize(
    ("most", "time", "message"),
    [
        (0, "1h", "--rounds: write 1 or more"),
        (3, "soon", "--max-time: "),
        (3, "0s", "--max-time: write more than 0s"),
    ],
)
def test_limits_that_are_none_are_refused_in_a_line(most: int, time: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        improve_limits(most, time)


LOCAL = """\
name: made
model: ./base
data: {{train: train.jsonl, eval: questions.jsonl}}
finetune: {{epochs: 2, rank: 16}}
variants: [{{name: base}}, {{name: int4, merge: finetune, quantize: w4a16}}]
baseline: base
workload: {{stages: [{{name: main, rate: 10.0, requests: 30, warmup: 0s}}], blocks: 4}}
quality: {{scorer: exact_match, {floor}}}
"""
RIGHT = {"base": 9, "int4": 5}  # of 10 answers; of any other variant 9


def right_in_ten(right: int) -> Callable[[int], str]:
    return lambda i: "yes" if i % 10 < right else "no"


def quality_run(path: Path, experiment: str, names: Sequence[str]) -> None:
    """A run of variants that are served here, as fast as one another; scores are as in `RIGHT`."""
    answers = {name: right_in_ten(RIGHT.get(name, 9)) for name in names}
    replace(SEEDS, variants=names, latencies={}, answers=answers, sections="").write(path)
    (path / "experiment.yaml").write_text(experiment)
    variants = load_experiment(path / "experiment.yaml").variants
    records = [
        VariantRecord(
            name=each.name,
            what=each.name,
            prompt_style="plain",
            kind=kind(each),
            weight_bits=METHODS[each.quantize.method].bits if each.quantize else None,
        )
        for each in variants
    ]
    (path / "variants.json").write_bytes(msgspec.json.encode(records))


@pytest.mark.parametrize(
    ("floor", "tried"),
    [
        ("min: 0.8", ["gentler quantization", "more training: epochs 4"]),
        ("max_drop: 0.1", ["gentler quantization", "milder tuning: epochs 1, rank 8"]),
    ],
)
def test_where_only_quality_binds_the_remedies_are_others(
    tmp_path: Path, floor: str, tried: list[str]
) -> None:
    quality_run(tmp_path / "run", LOCAL.format(floor=floor), ["base", "int4"])

    def measure(
        experiment: Experiment, where: Path, at: RunDirectory, earlier: Sequence[RunDirectory]
    ) -> MeasuredRun:
        at.path.rmdir()
        quality_run(at.path, experiment.as_yaml(), [each.name for each in experiment.variants])
        return MeasuredRun.read(at)

    first, limits = (
        MeasuredRun.read(RunDirectory(tmp_path / "run")),
        ImproveLimits(rounds=2, seconds=600),
    )
    record = steps(first, limits, measure).run()
    assert [each.kind for each in record.rounds[0].tried] == tried
    assert record.ending == "ships" and record.ships in ("int4-int8", "int4-taught", "int4-milder")
    gentler = record.rounds[0].tried[0]
    assert gentler.measured is not None and gentler.measured.value == pytest.approx(9 / 5)
    assert gentler.score is not None and gentler.score.value == gentler.measured.value
    assert gentler.score_expected == gentler.expected  # the metric that binds is the score
    assert "quantize: w8a8-int8" in gentler.change


def test_a_remedy_that_is_named_as_a_candidate_is_not_taken_for_it(tmp_path: Path) -> None:
    candidates = "improve: {candidates: [{name: int4-int8, merge: finetune, prompt: brief}]}\n"
    text = LOCAL.format(floor="min: 0.8") + 'prompts: {brief: "{input}"}\n' + candidates
    quality_run(tmp_path / "run", text, ["base", "int4"])
    first = MeasuredRun.read(RunDirectory(tmp_path / "run"))
    planned = planner_of(first).next(first, 1, 600.0)
    assert planned is not None and planned.record.tried[0].kind == "gentler quantization"
    assert planned.new[0].quantize is not None and planned.new[0].prompt is None


EXPERIMENT = """\
name: seeds-question
model: m
data: {{prompt: "Say hello"}}
variants: [{{name: base, url: {base}, model: m}}, {{name: tuned, url: {tuned}, model: m}}]
baseline: base
workload: {{stages: [{{rate: 20, requests: 20, warmup: 0s}}], blocks: 4}}
slo: {{latency_p50: 400ms}}
budget: {{price: {{output_per_million: $5}}, per_month: $5000, requests_per_month: 10M}}
improve: {{candidates: [{{name: remedy, url: {remedy}, model: m, expected: 0.5}}]}}
"""


@pytest.mark.slow
def test_the_seeds_question_dont_ship_then_a_remedy_ships(tmp_path: Path) -> None:
    """200 ms and 800 ms against 400 ms and $5,000: not to ship; at 350 ms: to ship."""
    with ExitStack() as stack:
        urls = {
            name: stack.enter_context(
                emulator(["--ttft", f"{latency - 10}ms", "--itl", "1ms", "--tokens", "11"])
            )
            for name, latency in (("base", 200), ("tuned", 800), ("remedy", 350))
        }
        (tmp_path / "experiment.yaml").write_text(EXPERIMENT.format(**urls))
        done = dyno("improve", "experiment.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tuned: DON'T SHIP" in done.stdout
    assert "SHIP remedy" in done.stdout
    run = tmp_path / "runs" / "seeds-question"
    assert "What was tried" in (run / "report.html").read_text()
    record = msgspec.json.decode((run / IMPROVE_FILE).read_bytes(), type=Improvement)
    assert (record.ending, record.ships, len(record.rounds)) == ("ships", "remedy", 1)
    assert (run / record.rounds[0].folder / "report.html").exists()
