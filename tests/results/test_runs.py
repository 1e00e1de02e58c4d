"""Two runs against each other."""

from __future__ import annotations

import random
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import msgspec
import pytest

from results.analysis import read_run
from results.comparison.stored_runs.compare import compare_runs
from results.comparison.stored_runs.settings import lines, setting_changes
from results.inputs import RunInputs
from results.report.run_comparison import junit, markdown
from results.schema import schema_of
from results.summary import RunChange, RunComparison
from tests.results.synthetic import inputs, request, write_journal, write_prompts


def a_run(
    folder: Path,
    latency: float,
    seed: int,
    correct: float = 0.8,
    mood: float = 0.03,
    rate: float = 10.0,
    name: str = "tuned",
    tokens: int = 5,
    failing: int = 0,
) -> RunInputs:
    """Eight blocks of 60 whose median wanders by `mood`."""
    rng = random.Random(seed)
    write_prompts(folder, {f"q{i}": "yes" for i in range(60)})
    for block in range(1, 9):
        level = latency * rng.uniform(1 - mood, 1 + mood)
        records = []
        for i in range(60):
            time, text = level * rng.uniform(0.9, 1.1), "yes" if i < correct * 60 else "no"
            failure = "http_5xx" if i >= 60 - failing else None
            records.append(
                request(
                    i,
                    f"q{i}",
                    100 * i,
                    time,
                    time / 2,
                    output_tokens=tokens,
                    text=text,
                    failure=failure,
                )
            )
        write_journal(folder, name, block, records, offered_rate=rate)
    return inputs(folder, [name])


def compared(before: RunInputs, after: RunInputs) -> RunComparison:
    return compare_runs(read_run(before), read_run(after))


def of(comparison: RunComparison, metric: str) -> RunChange:
    return next(change for change in comparison.changes if change.metric == metric)


def test_the_same_twice_is_shown_to_be_no_different(tmp_path: Path) -> None:
    comparison = compared(a_run(tmp_path / "a", 100, 1), a_run(tmp_path / "b", 100, 2))
    # 480 requests without a failure allow 0.9 points, 60 equal scores 3.8; 5 count as none.
    assert {change.outcome for change in comparison.changes} == {"equivalent"}
    assert comparison.conclusion == "nothing worse"
    assert comparison.notes == comparison.asked == comparison.missing == []


def test_a_slower_run_is_worse_and_a_better_score_better(tmp_path: Path) -> None:
    comparison = compared(
        a_run(tmp_path / "a", 100, 1, correct=0.6), a_run(tmp_path / "b", 150, 2, correct=0.9)
    )
    latency = of(comparison, "latency_p50")
    assert latency.outcome == "worse"
    assert latency.difference.relative.value == pytest.approx(0.5, abs=0.06)
    assert of(comparison, "quality").outcome == "better"
    assert of(comparison, "output_tokens_mean").outcome == "equivalent"
    assert comparison.conclusion == "worse"
    assert comparison.headline.startswith("Worse: tuned, main: latency p50")
    jsonschema.validate(msgspec.to_builtins(comparison), schema_of("comparison"))


def test_blocks_that_differ_by_half_do_not_settle_a_twentieth(tmp_path: Path) -> None:
    comparison = compared(
        a_run(tmp_path / "a", 100, 1, mood=0.5), a_run(tmp_path / "b", 105, 2, mood=0.5)
    )
    latency = of(comparison, "latency_p50")
    assert latency.outcome == "unsettled"
    assert latency.bounds is not None
    assert latency.bounds.high > 0.05
    assert "measure more blocks" in latency.sentence
    assert comparison.conclusion == "unsettled"


def test_other_loads_and_other_variants_are_not_compared(tmp_path: Path) -> None:
    one = a_run(tmp_path / "a", 100, 1)
    comparison = compared(one, a_run(tmp_path / "b", 100, 2, rate=20.0))
    assert {change.outcome for change in comparison.changes} == {"not compared"}
    assert comparison.asked == ["tuned, main: offered_rate: 10.0 -> 20.0"]
    assert comparison.conclusion == "nothing compared"
    assert (
        compared(one, a_run(tmp_path / "c", 100, 2, name="other")).changes[0].variant
        == "tuned / other"
    )


def test_what_differs_in_the_environment() -> None:
    before = {"hardware": {"cpu": "A", "cores": 2}, "versions": {"vllm": "0.31"}, "commit": "abc"}
    after = {
        "hardware": {"cpu": "A", "cores": 4},
        "versions": {"vllm": "0.32", "torch": "2.13"},
        "commit": "abc",
    }
    assert lines(setting_changes(before, after)) == [
        "hardware.cores: 2 -> 4",
        "versions.torch: none -> 2.13",
        "versions.vllm: 0.31 -> 0.32",
    ]


def test_in_words(tmp_path: Path) -> None:
    before, after = a_run(tmp_path / "a", 100, 1), a_run(tmp_path / "b", 150, 2)
    comparison = compare_runs(
        read_run(before, {"commit": "abc"}), read_run(after, {"commit": "def"})
    )
    text = markdown(comparison)
    assert "- **worse**: tuned, main: latency p50 was" in text
    assert "- commit: abc -&gt; def" in text
    assert text.count("\n| ") == 1 + len(comparison.changes)
    cases = ElementTree.fromstring(junit(comparison))
    worse = [change.label for change in comparison.changes if change.outcome == "worse"]
    assert [case.get("name") for case in cases if case.find("failure") is not None] == [
        *worse,
        "conclusion",
    ]
    assert cases.get("failures") == str(len(worse) + 1)
    assert cases.get("errors") == "0"


@pytest.mark.parametrize("tokens", [(5, 1), (1, 5)], ids=["the earlier", "the later"])
def test_what_only_one_run_has_is_not_settled(tmp_path: Path, tokens: tuple[int, int]) -> None:
    """Answers of one token have no time between tokens."""
    runs = [
        a_run(tmp_path / name, 100, 1, tokens=count)
        for name, count in zip("ab", tokens, strict=True)
    ]
    outcomes = {
        change.metric: change.outcome
        for change in compared(*runs).changes
        if change.metric.startswith("tpot")
    }
    assert outcomes == {"tpot_mean": "unsettled"}


@pytest.mark.parametrize(("failing", "outcome"), [((0, 3), "worse"), ((3, 0), "better")])
def test_new_failures_are_worse_and_fewer_are_better(
    tmp_path: Path, failing: tuple[int, int], outcome: str
) -> None:
    """24 of 480 against none: Fisher's exact test has p = 5e-8."""
    runs = [
        a_run(tmp_path / name, 100, 1, failing=count)
        for name, count in zip("ab", failing, strict=True)
    ]
    change = of(compared(*runs), "error_rate")
    assert change.outcome == outcome
    assert abs(change.difference.absolute.value or 0) == pytest.approx(0.05)


def test_the_first_prompt_that_asks_something_else_is_named(tmp_path: Path) -> None:
    before, after = (a_run(tmp_path / name, 100, 1) for name in "ab")
    file = after.run / "prompts.jsonl"
    text = file.read_text()
    for prompt in ("q3", "q5"):
        text = text.replace(f'"content":"{prompt}"', f'"content":"{prompt}!"')
    file.write_text(text)
    assert any(
        "2 of 60 prompts ask something else (the first: q3)" in line
        for line in compared(before, after).asked
    )
