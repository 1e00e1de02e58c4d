"""Random runs against an independent checker of their journals; `make fuzz-runs` has a thousand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fuzzed_runs.checks import check
from benchmarks.fuzzed_runs.run import fuzz, related

SEEDS = range(10)
SEEN_WELL = 3008


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_concluded_or_said_against_the_journals(tmp_path: Path, seed: int) -> None:
    assert fuzz(tmp_path / "run", seed) == []
    assert related(tmp_path / "run", seed) == []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that ships one variant and not another, and has failures."""
    for seed in range(SEEN_WELL, SEEN_WELL + 200):
        folder = tmp_path_factory.mktemp("seen") / "run"
        if fuzz(folder, seed) or not (folder / "plan.json").exists():
            continue
        verdicts, summary = (
            json.loads((folder / f"{name}.json").read_text()) for name in ("verdict", "summary")
        )
        decisions = {v["decision"] for v in verdicts["variants"]}
        failed = any(
            note.endswith(")")
            for v in summary["variants"]
            for s in v["stages"]
            for note in s["notes"]
            if "failed" in note
        )
        if {"SHIP", "DON'T SHIP"} <= decisions and failed:
            return folder
    raise AssertionError("no such run among 200")


def objective(verdicts: Any, outcome: str) -> Any:
    return next(o for v in verdicts["variants"] for o in v["objectives"] if o["outcome"] == outcome)


def flip(verdicts: Any) -> None:
    objective(verdicts, "fails")["outcome"] = "holds"


def move(verdicts: Any) -> None:
    judgement = objective(verdicts, "holds")
    judgement["value"]["value"] *= 3


def say_otherwise(verdicts: Any) -> None:
    judgement = objective(verdicts, "holds")
    judgement["sentence"] = judgement["sentence"].replace("keeps", "breaks")


def recommend_another(verdicts: Any) -> None:
    verdicts["recommended"] = next(
        v["variant"] for v in verdicts["variants"] if v["decision"] != "SHIP"
    )


def ship_none(verdicts: Any) -> None:
    verdicts["headline"] = "No variant may ship: base breaks an objective."


def count_wrongly(summary: Any) -> None:
    stage = next(s for v in summary["variants"] for s in v["stages"] if s["failures"])
    stage["notes"] = [note.replace(" of ", "1 of ") for note in stage["notes"]]


def lose_one(summary: Any) -> None:
    summary["variants"][0]["stages"][0]["succeeded"] -= 1


def leave_the_interval(summary: Any) -> None:
    estimate = summary["variants"][0]["stages"][0]["metrics"]["latency_mean"]
    estimate["low"] = estimate["value"] + 1


def be_quicker(summary: Any) -> None:
    summary["variants"][0]["stages"][0]["metrics"]["latency_mean"] |= {
        "value": 1.0,
        "low": 0.5,
        "high": 2.0,
    }


def one_replica_less(plan: Any) -> None:
    for variant in plan["variants"]:
        variant |= {"rate_per_replica": 123.0, "replicas": 1}


@pytest.mark.parametrize(
    ("document", "spoil"),
    [
        ("verdict", flip),
        ("verdict", move),
        ("verdict", say_otherwise),
        ("verdict", recommend_another),
        ("verdict", ship_none),
        ("summary", count_wrongly),
        ("summary", lose_one),
        ("summary", leave_the_interval),
        ("summary", be_quicker),
        ("plan", one_replica_less),
    ],
)
def test_the_checker_finds_what_is_wrong(
    run: Path, document: str, spoil: Callable[[Any], None]
) -> None:
    file = run / f"{document}.json"
    right = file.read_text()
    spoiled = json.loads(right)
    spoil(spoiled)
    assert check(run) == []
    try:
        file.write_text(json.dumps(spoiled))
        assert check(run)
    finally:
        file.write_text(right)
