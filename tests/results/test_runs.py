"""Two runs against each other."""

from __future__ import annotations

import random
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from results import RunInputs, compare_runs
from results.runs import environment_changes
from results.runs_text import junit, markdown
from results.schema import DOCUMENTS
from results.summary import RunChange, RunComparison
from tests.results.synthetic import inputs, request, write_journal, write_prompts


def a_run(
    folder: Path, latency: float, seed: int, correct: float = 0.8, mood: float = 0.03, rate: float = 10.0, name: str = "tuned"
) -> RunInputs:
    """Eight blocks of 60 whose median wanders by `mood`."""
    rng = random.Random(seed)
    write_prompts(folder, {f"q{i}": "yes" for i in range(60)})
    for block in range(1, 9):
        level = latency * rng.uniform(1 - mood, 1 + mood)
        records = []
        for i in range(60):
            time = level * rng.uniform(0.9, 1.1)
            records.append(
                request(i, f"q{i}", 100 * i, time, time / 2, output_tokens=5, text="yes" if i < correct * 60 else "no")
            )
        write_journal(folder, name, block, records, offered_rate=rate)
    return inputs(folder, [name])


def of(comparison: RunComparison, metric: str) -> RunChange:
    return next(change for change in comparison.changes if change.metric == metric)


def test_the_same_twice_is_no_difference(tmp_path: Path) -> None:
    found = compare_runs(a_run(tmp_path / "a", 100, 1), a_run(tmp_path / "b", 100, 2))
    assert {change.outcome for change in found.changes} == {"no difference"}
    assert found.notes == []


def test_a_slower_run_is_worse_and_a_better_score_better(tmp_path: Path) -> None:
    found = compare_runs(a_run(tmp_path / "a", 100, 1, correct=0.6), a_run(tmp_path / "b", 150, 2, correct=0.9))
    latency = of(found, "latency_p50")
    assert latency.outcome == "worse"
    assert latency.difference.relative.value == pytest.approx(0.5, abs=0.06)
    assert of(found, "quality").outcome == "better"
    assert of(found, "output_tokens_mean").outcome == "no difference"
    assert msgspec.json.decode(msgspec.json.encode(found), type=DOCUMENTS["comparison"]) == found


def test_less_than_the_noise_is_no_news(tmp_path: Path) -> None:
    """Runs whose own blocks differ by half do not tell 5 % apart."""
    found = compare_runs(a_run(tmp_path / "a", 100, 1, mood=0.5), a_run(tmp_path / "b", 105, 2, mood=0.5))
    latency = of(found, "latency_p50")
    assert latency.outcome == "no difference"
    assert latency.noise is not None
    assert latency.noise > 0.05


def test_other_loads_and_other_variants_are_not_compared(tmp_path: Path) -> None:
    one = a_run(tmp_path / "a", 100, 1)
    found = compare_runs(one, a_run(tmp_path / "b", 100, 2, rate=20.0))
    assert [change.metric for change in found.changes] == ["quality"]
    assert "offered loads differ" in found.notes[0]
    assert compare_runs(one, a_run(tmp_path / "c", 100, 2, name="other")).changes[0].variant == "tuned / other"


def test_what_differs_in_the_environment() -> None:
    before = {"hardware": {"cpu": "A", "cores": 2}, "versions": {"vllm": "0.31"}, "commit": "abc"}
    after = {"hardware": {"cpu": "A", "cores": 4}, "versions": {"vllm": "0.32", "torch": "2.13"}, "commit": "abc"}
    assert environment_changes(before, after) == [
        "hardware.cores: 2 -> 4",
        "versions.torch: none -> 2.13",
        "versions.vllm: 0.31 -> 0.32",
    ]


def test_in_words(tmp_path: Path) -> None:
    found = compare_runs(a_run(tmp_path / "a", 100, 1), a_run(tmp_path / "b", 150, 2), ({"commit": "abc"}, {"commit": "def"}))
    text = markdown(found)
    assert "- **worse**: tuned, main: latency p50 was" in text
    assert "- commit: abc -> def" in text
    assert text.count("\n| ") == 1 + len(found.changes)
    cases = ElementTree.fromstring(junit(found))
    worse = [change.label for change in found.changes if change.outcome == "worse"]
    assert [case.get("name") for case in cases if case.find("failure") is not None] == worse
    assert cases.get("failures") == str(len(worse))
