"""The bench of plants: its table, from outcomes that are stored; nothing is measured here."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest

from benchmarks.plan import outcome_file, run
from benchmarks.plan.held_out import judgement
from benchmarks.plan.outcome_file import code_identity
from benchmarks.plan.plant_outcome import PlantOutcome
from benchmarks.plan.plants import KINDS
from benchmarks.plan.truth import Truth
from results.capacity.simulation.held_rate import HeldRate


def outcome(kind: str, truth: float = 10.0, number: int = 0) -> PlantOutcome:
    return PlantOutcome(
        kind=kind,
        number=number,
        error=0.001,
        truth=Truth(truth, 0.01),
        planned=HeldRate(10.0, 9.5, 10.5),
        stamped=10.1,
        holds=9.2,
        fails=10.9,
        rates=[9.2, 10.9, 9.2],
        bisection=20,
        seconds=12.0,
    )


def table(
    outcomes: list[PlantOutcome], folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> tuple[int, str]:  # fmt: skip
    lines = msgspec.json.Encoder().encode_lines(outcomes)
    (folder / f"{code_identity()}.jsonl").write_bytes(lines)
    monkeypatch.setattr("sys.argv", ["run", "1", "--outcomes", str(folder), "--plants-only"])
    return run.main(), capsys.readouterr().out


def test_stored_outcomes_are_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = [outcome(kind) for kind in KINDS]
    code, printed = table(outcomes, tmp_path, monkeypatch, capsys)
    assert code == 0
    expected = "0.1% / 0.1% | 6/6 | 10.0% | 1.0% | 6/6 | 16.9% | 3 | 3 : 20 |"
    assert f"| all | 6 | {expected}" in printed


def test_a_miss_beyond_the_truths_error_fails_and_one_within_it_is_unclear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    near = [outcome(kind, 10.6 if kind == "cliff" else 10.0) for kind in KINDS]
    code, printed = table(near, tmp_path, monkeypatch, capsys)
    assert (code, "| cliff | 1 | 0.1% / 0.1% | 0/1, 1 unclear |" in printed) == (0, True)
    far = [outcome(kind, 11.5 if kind == "cliff" else 10.0) for kind in KINDS]
    code, printed = table(far, tmp_path, monkeypatch, capsys)
    assert (code, "| cliff | 1 | 0.1% / 0.1% | 0/1 |" in printed) == (1, True)


def test_a_truth_is_outside_an_interval_by_a_share_of_itself() -> None:
    truth = Truth(10.0, 0.0)
    assert truth.outside(9.0, 11.0) == truth.outside(None, 11.0) == truth.outside(9.0, None) == 0
    assert truth.outside(10.5, None) == pytest.approx(0.05)
    assert truth.outside(None, 8.0) == pytest.approx(0.2)


def test_a_held_out_load_that_was_disturbed_judges_nothing() -> None:
    assert judgement(error=-0.6, noise=1.45, goal=0.05) == "not judged"
    assert judgement(error=math.nan, noise=math.nan, goal=0.05) == "not judged"
    assert judgement(error=0.06, noise=0.07, goal=0.05) == "ok"
    assert judgement(error=math.nan, noise=0.01, goal=0.05) == "MISSED"
    assert judgement(error=-0.08, noise=0.07, goal=0.05) == "MISSED"


@pytest.mark.parametrize(
    ("source", "counts"),
    [
        ("results/measures/saturation.py", True),
        ("results/capacity/search/search.py", True),
        ("foundation/run/journal.py", True),
        ("benchmarks/plan/structure.py", False),
    ],
)
def test_outcomes_are_of_the_sources_that_they_rest_on(
    source: str, counts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome_file, "_ROOT", tmp_path)
    file = tmp_path / source
    for each in (*outcome_file._SOURCES, source):
        (tmp_path / each).parent.mkdir(parents=True, exist_ok=True)
        if each.endswith(".py"):
            (tmp_path / each).write_text("one")
        else:
            (tmp_path / each).mkdir(exist_ok=True)
    before = code_identity()
    file.write_text("two")
    assert (code_identity() != before) == counts
