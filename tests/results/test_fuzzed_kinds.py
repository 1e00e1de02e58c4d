"""Replicas, hours, days, races and shares in random runs: the checker finds what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.fuzzed_runs.checks import check
from benchmarks.fuzzed_runs.draws import RandomRun
from benchmarks.fuzzed_runs.kinds import edit_journals
from benchmarks.fuzzed_runs.parts import PARTS
from benchmarks.fuzzed_runs.races import check_race, race
from benchmarks.fuzzed_runs.relations import RELATIONS, Relation, decided, same
from benchmarks.fuzzed_runs.runs import write_run
from benchmarks.fuzzed_runs.shares import is_whole

REPLICAS, ACCELERATORS = 3, 2
BUDGET = {"price": {"accelerator_hour": "$2.5"}, "requests_per_month": "1M"}
PLAN = {"day": [0, *range(1, 24)], "headroom": "20%", "spare": 1, "startup": "90s", "burst": 2}


def written(folder: Path, seed: int) -> Path:
    """A whole run of three replicas with a price by the hour and a day to plan for."""
    write_run(folder, seed)
    file = folder / "experiment.yaml"
    experiment = json.loads(file.read_text())
    experiment |= {"slo": {"latency_mean": "20s"}, "budget": BUDGET, "plan": PLAN}
    file.write_text(json.dumps(experiment))
    records = json.loads((folder / "variants.json").read_text())
    (folder / "variants.json").write_text(
        json.dumps([record | {"accelerators": ACCELERATORS} for record in records])
    )
    edit_journals(
        RandomRun(folder, np.random.default_rng(0)),
        "*",
        lambda header: header | {"replicas": REPLICAS, "router": "round robin"},
        lambda record: record | {"replica": record["id"] % REPLICAS + 1},
    )
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two variants at least, of which one is planned by a measured load."""
    for seed in range(9000, 9100):
        folder = written(tmp_path_factory.mktemp("kinds") / "run", seed)
        variants = json.loads((folder / "variants.json").read_text())
        if len(variants) < 2 or not is_whole(folder):
            continue
        decided(folder)
        plan = json.loads((folder / "plan.json").read_text())
        summary = json.loads((folder / "summary.json").read_text())
        costs = [v["metrics"]["cost_per_request"]["value"] for v in summary["variants"]]
        if plan["variants"][0]["source"] == "measured" and None not in costs:
            return folder
    raise AssertionError("no such run among 100")


@pytest.mark.parametrize("relation", [*RELATIONS, *PARTS], ids=lambda each: each.__name__)
def test_what_follows_holds(run: Path, tmp_path: Path, relation: Relation) -> None:
    whole = Path(shutil.copytree(run, tmp_path / "run"))
    assert list(relation(whole, tmp_path / "changed", np.random.default_rng(1))) == []


def divide(summary: Any, plan: Any) -> None:
    metrics = summary["variants"][0]["metrics"]["cost_per_request"]
    metrics |= {key: metrics[key] / REPLICAS for key in ("value", "low", "high") if metrics[key]}


def forget_replicas(summary: Any, plan: Any) -> None:
    for stage in summary["variants"][0]["stages"]:
        stage["replicas"] = 1


def slow_down(summary: Any, plan: Any) -> None:
    rate = summary["variants"][0]["stages"][0]["metrics"]["requests_per_s"]
    rate |= {key: rate[key] / REPLICAS for key in ("value", "low", "high") if rate[key]}


def hold_together(summary: Any, plan: Any) -> None:
    variant = plan["variants"][0]
    variant["rate_per_replica"] *= REPLICAS
    variant["rate"]["low"] *= REPLICAS


def forget_accelerators(summary: Any, plan: Any) -> None:
    peak = plan["variants"][0]["peak"]
    peak["accelerators"] = peak["replicas"]


def shorten_the_day(summary: Any, plan: Any) -> None:
    plan["variants"][0]["day"]["replica_hours"] -= 1


def forget_a_burst(summary: Any, plan: Any) -> None:
    plan["variants"][0]["day"]["parts"][5]["fleet"]["replicas"] -= 1


@pytest.mark.parametrize(
    "spoil",
    [
        divide,
        forget_replicas,
        slow_down,
        hold_together,
        forget_accelerators,
        shorten_the_day,
        forget_a_burst,
    ],
)
def test_the_checker_finds_what_is_wrong_with_replicas(
    run: Path, tmp_path: Path, spoil: Callable[[Any, Any], None]
) -> None:
    spoiled = Path(shutil.copytree(run, tmp_path / "run"))
    assert check(spoiled) == []
    documents = [json.loads((run / f"{name}.json").read_text()) for name in ("summary", "plan")]
    spoil(*documents)
    for name, document in zip(("summary", "plan"), documents, strict=True):
        (spoiled / f"{name}.json").write_text(json.dumps(document))
    assert check(spoiled)


def test_a_number_of_the_page_that_is_not_the_summarys_is_found(run: Path, tmp_path: Path) -> None:
    spoiled = Path(shutil.copytree(run, tmp_path / "run"))
    page = (spoiled / "report.html").read_text()
    place = page.index('class="value">', page.index('<table class="comparison">'))
    end = page.index("</span>", place)
    (spoiled / "report.html").write_text(f'{page[:place]}class="value">987654.3{page[end:]}')
    assert any("shown as 987654.3" in fault for fault in check(spoiled))


def test_a_race_leaves_a_run_that_passes_every_check(run: Path, tmp_path: Path) -> None:
    raced = Path(shutil.copytree(run, tmp_path / "run"))
    if race(raced):
        assert check(decided(raced)) == []


def test_a_lost_variant_that_is_recommended_is_found() -> None:
    left = {"variant": "slow", "block": 2, "reason": "worse"}
    verdict = {"variant": "slow", "decision": "SHIP", "headline": "SHIP slow", "reasons": []}
    verdicts = {"recommended": "slow", "headline": "Ship slow", "variants": [verdict]}
    faults = list(check_race({"departures": [left]}, {"variants": []}, verdicts))
    assert len(faults) == 2
    assert "left the race and is recommended" in faults[0]


def test_two_numbers_are_the_same_but_for_the_order_of_additions() -> None:
    assert list(same({"a": [1.0, None]}, {"a": [1.0 + 1e-12, None]}, "")) == []
    assert list(same({"a": [1.0, None]}, {"a": [1.001, None]}, "")) == ["a[0]: 1.0, then 1.001"]
    assert list(same({"a": 1}, {}, "")) == ["a: 1, then None"]
