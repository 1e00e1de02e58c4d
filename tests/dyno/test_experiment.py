"""`experiment.yaml`: what it may say, and the one line said of a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from dyno.experiment.loading import load_experiment
from dyno.experiment.schema import UntilDecided
from foundation.errors import BadInput
from foundation.path_fields import resolved
from tests.dyno.experiment_files import load, mistake

ROOT = Path(__file__).resolve().parents[2]
GOOD = """\
name: trial
model: bundled:smollm2-135m-instruct
data: {train: train.jsonl, eval: eval.jsonl}
prompts:
  short: "Topic: {input}"
finetune: {rank: 8, prompt: short}
variants:
  - {name: base, prompt: short}
  - {name: tuned, adapter: finetune, prompt: short}
  - {name: int8, merge: finetune, quantize: w8a8-int8}
baseline: base
workload:
  stages: [{rate: 2.0, duration: 60s}, {concurrency: 16, requests: 200}]
slo: {latency_p95: 400ms, ttft_p95: 1.1x, error_rate: 0.1%}
quality: {scorer: choice, min: 85%}
budget: {per_month: $5000, requests_per_month: 10M, price: {accelerator_hour: $2.5}}
plan: {peak_rate: 120/s}
"""


def test_the_resolved_file_reads_back_as_the_same_experiment(tmp_path: Path) -> None:
    loaded = load(tmp_path, GOOD)
    again = load(tmp_path, loaded.as_yaml())
    assert again == loaded


def test_the_resolved_file_is_one_to_read(tmp_path: Path) -> None:
    text = load(tmp_path, GOOD.replace("Topic:", "Thème :")).as_yaml()
    assert "Thème :" in text
    assert "null" not in text


def test_paths_are_resolved_against_the_file(tmp_path: Path) -> None:
    (tmp_path / "eval.jsonl").write_text("{}\n")
    loaded = resolved(load(tmp_path, GOOD), tmp_path)
    assert loaded.data.eval == str(tmp_path / "eval.jsonl")
    assert loaded.model == "bundled:smollm2-135m-instruct"
    assert loaded.variants[1].adapter == "finetune"


def test_the_verdict_is_made_on_the_first_open_loop_stage(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD).judged_stage == "rate-2"


@pytest.mark.parametrize("name", ["news-topics", "news-topics-quick", "h100"])
def test_the_examples_load(name: str) -> None:
    assert load_experiment(ROOT / "examples" / name / "experiment.yaml").variants


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("rank: 8", "ranks: 8", 6, "finetune.ranks: unknown key (did you mean 'rank'?)"),
        (
            "baseline: base",
            "baseline: bass",
            11,
            "baseline: 'bass' is no variant (did you mean 'base'?)",
        ),
        (
            "duration: 60s",
            "duration: 60",
            13,
            "workload.stages.0.duration: write a duration with its unit",
        ),
        (
            "duration: 60s",
            "duration: 60 secs",
            13,
            "workload.stages.0.duration: write a duration with its unit",
        ),
        (
            "latency_p95: 400ms",
            "latency_p95: 400",
            14,
            "latency_p95: write a duration such as 400ms",
        ),
        (
            "latency_p95",
            "latency_p59",
            14,
            "latency_p59: not a metric an SLO can name (did you mean",
        ),
        ("quantize: w8a8-int8", "quantize: int7", 10, "variants.2.quantize.method"),
        (
            "merge: finetune, ",
            "merge: finetune, adapter: finetune, ",
            10,
            "adapter (served beside its base) or merge",
        ),
        ("finetune: {rank: 8, prompt: short}\n", "", 8, "there is no section finetune"),
        (
            "name: tuned, adapter: finetune, prompt: short",
            "name: tuned, adapter: finetune, prompt: shrt",
            9,
            "'shrt' is no prompt",
        ),
        ("name: tuned,", "name: base,", 7, "two are named 'base'"),
        ("min: 85%", "min: 850%", 15, "quality.min: write a share"),
        (
            "per_month: $5000, requests_per_month: 10M",
            "per_month: $5000",
            16,
            "per_month needs requests_per_month",
        ),
        ("{accelerator_hour: $2.5}", "{}", 16, "write accelerator_hour"),
        ("peak_rate: 120/s", "peak_rate: fast", 17, "plan.peak_rate: write a rate"),
        ("name: trial", "name: my trial", 1, "name:"),
        (
            "data: {train: train.jsonl, eval: eval.jsonl}",
            "data: {eval: eval.jsonl}",
            3,
            "finetune needs examples",
        ),
        ("name: trial\n", "", 1, "name: missing"),
        (
            "{rate: 2.0, duration: 60s}",
            "{rate: 2.0, concurrency: 3, duration: 60s}",
            13,
            "either rate (open loop) or concurrency",
        ),
        ('"Topic: {input}"', '"Topic: {input"', 5, "prompts.short"),
        ('"Topic: {input}"', '"Topic: {input"', 5, "write a literal brace twice"),
        ('"Topic: {input}"', '"Topic: {0}"', 5, "{0}: write the name of a field alone"),
        ('"Topic: {input}"', '"Topic: {}"', 5, "{}: write the name of a field alone"),
        ('"Topic: {input}"', '"Topic: {input.real}"', 5, "write the name of a field alone"),
        ('"Topic: {input}"', '"Topic: {input[0]}"', 5, "write the name of a field alone"),
        ('"Topic: {input}"', '"Topic: {input!r}"', 5, "write the name of a field alone"),
        ('"Topic: {input}"', '"Topic: {input:>9999999999}"', 5, "name of a field alone"),
    ],
)
def test_a_mistake_gets_one_line_with_file_line_and_field(
    tmp_path: Path, old: str, new: str, line: int, says: str
) -> None:
    assert old in GOOD
    message = mistake(tmp_path, GOOD.replace(old, new))
    assert message.startswith(f"{line}: ") and says in message, message


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "write an experiment"), ("a: [", "not YAML"), ("- 1", "write an experiment")],
)
def test_a_file_that_is_no_experiment(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        load(tmp_path, text)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        load_experiment(tmp_path / "none.yaml")


LENGTHS = """
name: lengths
model: org/model
data: {prompt: Say hello}
variants: [{name: a, url: "http://127.0.0.1:9/v1", model: m}, \
{name: b, url: "http://127.0.0.1:9/v1", model: m}]
baseline: a
workload: {stages: [{rate: 10, requests: 10}]}
"""


def test_a_run_until_decided_grows_by_half_at_each_look() -> None:
    # 10 x 1.5, 1.5^2, 1.5^3 and 1.5^4 are 15, 22.5, 33.75 and 50.6: never fewer blocks.
    assert UntilDecided(looks=5).block_counts(10) == [15, 23, 34, 51]
    assert UntilDecided(looks=2).block_counts(3) == [5]


def test_the_command_line_says_how_long_to_measure(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text(LENGTHS)
    experiment = load_experiment(tmp_path / "e.yaml")
    planned = experiment.with_stopping_rule(False, "3%", "5m").resolution
    assert planned is not None
    assert (planned.change, planned.max_time, planned.metric, planned.power) == (
        0.03,
        300,
        "latency_p95",
        0.8,
    )
    decided = experiment.with_stopping_rule(True, None, None).until_decided
    assert decided is not None
    assert decided.max_time == 1800
    (tmp_path / "f.yaml").write_text(LENGTHS + "resolution: 3%\n")
    assert (
        load_experiment(tmp_path / "f.yaml").resolution
        == experiment.with_stopping_rule(False, "3%", None).resolution
    )


@pytest.mark.parametrize(
    ("decided", "resolution", "time", "says"),
    [
        (False, "fast", None, "--resolution: write a change"),
        (False, "0%", None, "--resolution: write more than 0"),
        (False, "3%", "3", "--max-time: write a duration"),
        (False, None, "3m", "--max-time goes with"),
        (True, "3%", None, "--resolution: until_decided adds blocks by the verdict"),
    ],
)
def test_a_length_that_can_not_be(
    tmp_path: Path, decided: bool, resolution: str | None, time: str | None, says: str
) -> None:
    (tmp_path / "e.yaml").write_text(LENGTHS)
    with pytest.raises(BadInput, match=says):
        load_experiment(tmp_path / "e.yaml").with_stopping_rule(decided, resolution, time)


def test_a_resolution_needs_something_to_compare(tmp_path: Path) -> None:
    one = LENGTHS.replace(', {name: b, url: "http://127.0.0.1:9/v1", model: m}', "")
    (tmp_path / "e.yaml").write_text(one + "resolution: 3%\n")
    with pytest.raises(BadInput, match="resolution: there is nothing to compare"):
        load_experiment(tmp_path / "e.yaml")
    (tmp_path / "e.yaml").write_text(LENGTHS + "resolution: {change: 3%, metric: latency_p96}\n")
    with pytest.raises(
        BadInput,
        match=r"resolution\.metric: 'latency_p96' is not a time \(did you mean 'latency_p9",
    ):
        load_experiment(tmp_path / "e.yaml")


@pytest.mark.parametrize(
    "labels",
    [
        ("yes", "no"),
        ("on", "Off"),
        ("1", "2"),
        ("1.0", "1.10"),
        ("null", "~"),
        ("true", "False"),
        ("010", "8"),
        ("1:30", "y"),
    ],
)
def test_labels_are_the_words_that_stand_there(tmp_path: Path, labels: tuple[str, ...]) -> None:
    text = GOOD.replace(
        "{scorer: choice, min: 85%}", f"{{scorer: choice, labels: [{', '.join(labels)}]}}"
    )
    loaded = load(tmp_path, text)
    assert loaded.quality.labels == labels
    assert load(tmp_path, loaded.as_yaml()).quality.labels == labels


def test_keys_are_the_words_that_stand_there(tmp_path: Path) -> None:
    text = GOOD.replace("rate: 2.0,", "rate: 2.0, bursts: {on: 2s, off: 8s},")
    text = text.replace("prompts:\n", "prompts:\n  yes: '{input}'\n  1: '{input}'\n")
    loaded = load(tmp_path, text)
    bursts = loaded.workload.stages[0].bursts
    assert bursts is not None and (bursts.on, bursts.off) == (2.0, 8.0)
    assert list(loaded.prompts) == ["yes", "1", "short"]
    assert load(tmp_path, loaded.as_yaml()) == loaded


def test_minutes_and_seconds_are_not_taken_for_a_count(tmp_path: Path) -> None:
    text = GOOD.replace("requests: 200", "requests: 1:30")
    with pytest.raises(
        BadInput, match=r"experiment.yaml:13: workload.stages.1.requests: write a whole number"
    ):
        load(tmp_path, text)


def test_a_leading_zero_does_not_make_a_number_octal(tmp_path: Path) -> None:
    loaded = load(tmp_path, GOOD.replace("requests: 200", "requests: 0200"))
    assert loaded.workload.stages[1].requests == 200


def test_shares_of_all_and_changes_past_it_read_back(tmp_path: Path) -> None:
    text = GOOD.replace("min: 85%", "min: 100%").replace(
        "{per_month:", "{max_increase: 150%, per_month:"
    )
    loaded = load(tmp_path, text)
    assert (loaded.quality.min, loaded.budget and loaded.budget.max_increase) == (1.0, 1.5)
    assert load(tmp_path, loaded.as_yaml()) == loaded


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        ("latency_p95: -200%", "more than nothing, not '-200%'"),
        ("latency_p95: 0x", "more than nothing"),
        ("latency_p95: 0ms", "above zero"),
        ("latency_p95: '1,1x'", "decimal point"),
        ("latency_p95: '0,4s'", "decimal point"),
        ("latency_p95: 110%", "1.1x or +5%, not '110%'"),
        ("error_rate: 1", "write 100% or 1%, not 1"),
        ("error_rate: '0,1%'", "decimal point"),
    ],
)
def test_a_limit_that_may_mean_something_else_is_questioned(
    tmp_path: Path, limit: str, says: str
) -> None:
    with pytest.raises(BadInput, match=r"experiment.yaml:14: slo: ") as error:
        load(tmp_path, GOOD.replace("latency_p95: 400ms", limit).replace(", error_rate: 0.1%", ""))
    assert says in str(error.value)
