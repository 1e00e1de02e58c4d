"""Replicas from measured rates."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from foundation.run.records import Prompt, RequestRecord
from results.analysis import analyse
from results.capacity.plan.capacity_plan import VariantCapacity
from results.capacity.plan.fleet import replicas_for
from results.capacity.plan.plan import plan_capacity
from results.config import PlanConfig
from tests.results.synthetic import Goals, inputs, request, write_journal, write_prompts

SLO = {"latency_p95": "200ms"}


@pytest.mark.parametrize(
    ("peak", "rate", "headroom", "spare", "replicas"),
    [
        (120, 10, 0.2, 1, 16),
        (10, 10, 0, 0, 1),
        (8, 10, 0.2, 0, 1),
        (8.1, 10, 0.2, 0, 2),
        (0.5, 10, 0.2, 1, 2),
    ],
)
def test_replicas_by_hand(
    peak: float, rate: float, headroom: float, spare: int, replicas: int
) -> None:
    assert replicas_for(peak, rate, headroom, spare) == replicas


def planned(run: Path, latencies: dict[float, float], slo: dict[str, str] = SLO) -> VariantCapacity:
    """A stage for each rate, with its latency."""
    for rate, latency in latencies.items():
        for block in (1, 2, 3):
            records = [request(i, "q", i * 1000 / rate, latency + i % 7, 20) for i in range(100)]
            stage = "main" if rate == min(latencies) else f"rate-{rate:g}"
            write_journal(
                run,
                "base",
                block,
                records,
                stage=stage,
                offered_rate=rate,
                window_ms=(0, 100_000 / rate),
            )
    run_inputs = inputs(
        run,
        ["base"],
        Goals(
            slo,
            budget={"price": {"accelerator_hour": "$2"}},
            plan={"peak_rate": "100/s", "headroom": 0.2},
        ),
    )
    return plan_capacity(analyse(run_inputs), run_inputs).variants[0]


def test_the_highest_rate_that_met_the_slo(tmp_path: Path) -> None:
    """5 and 10 hold, 20 does not: 100 / (10 x 0.8) = 12.5, so 13 and a spare; $2 and 730 hours."""
    plan = planned(tmp_path, {5: 100, 10: 150, 20: 400})
    assert (plan.rate_per_replica, plan.lower_bound, plan.replicas) == (10, False, 14)
    assert plan.cost_per_month == pytest.approx(14 * 2 * 730)


def test_it_is_a_lower_bound_where_nothing_failed(tmp_path: Path) -> None:
    plan = planned(tmp_path, {5: 100, 10: 150})
    assert (plan.rate_per_replica, plan.lower_bound) == (10, True)
    assert "at least 10" in plan.sentence


def test_a_rate_above_one_that_failed_does_not_count(tmp_path: Path) -> None:
    assert planned(tmp_path, {5: 100, 10: 400, 20: 100}).rate_per_replica == 5


def test_no_rate_held_no_plan(tmp_path: Path) -> None:
    plan = planned(tmp_path, {5: 400})
    assert (plan.rate_per_replica, plan.replicas) == (None, None)
    assert (
        "none of the measured rates (5 requests/s) is held within the SLO; measure lower ones"
        in plan.sentence
    )
    assert "names no slo" in planned(tmp_path / "without", {5: 100}, {}).sentence


def one_stage(
    run: Path, records: list[RequestRecord], uneven: dict[str, str] | None = None, **how: Any
) -> VariantCapacity:
    """The plan of three equal blocks of one stage, for 100 requests/s."""
    for block in (1, 2, 3):
        write_journal(run, "base", block, records, **{"offered_rate": 10.0, **how})
    run_inputs = dataclasses.replace(
        inputs(run, ["base"], Goals(SLO, plan={"peak_rate": "100/s"})), uneven=uneven or {}
    )
    return plan_capacity(analyse(run_inputs), run_inputs).variants[0]


def test_a_load_that_was_not_held_is_no_capacity_however_quick_its_tokens(tmp_path: Path) -> None:
    """10 requests/s arrive, 2 a second are answered: the SLO on TPOT alone would let it through."""
    records = [request(i, "q", i * 100, 100 + i * 400, 50 + i * 400) for i in range(100)]
    for block in (1, 2, 3):
        write_journal(tmp_path, "base", block, records)
    run_inputs = inputs(
        tmp_path, ["base"], Goals({"tpot_p50": "60ms"}, plan={"peak_rate": "100/s"})
    )
    plan = plan_capacity(analyse(run_inputs), run_inputs).variants[0]
    assert (plan.rate_per_replica, plan.replicas) == (None, None)
    assert "none of the measured rates (10 requests/s) is held" in plan.sentence


STEADY = [request(i, "q", i * 100, 50 + i % 7) for i in range(100)]


def test_what_is_not_one_rate_of_requests_is_no_capacity(tmp_path: Path) -> None:
    ramp = one_stage(tmp_path / "ramp", STEADY, {"main": "its rate goes from 5 to 15 requests/s"})
    assert ramp.replicas is None and "main: its rate goes from 5 to 15 requests/s" in ramp.sentence
    closed = one_stage(tmp_path / "closed", STEADY, offered_rate=None, concurrency=4)
    assert closed.replicas is None and closed.sentence.startswith("no stage has an offered rate")
    late = one_stage(
        tmp_path / "late", [request(i, "q", i * 100, 90, 80, slip_ms=40) for i in range(100)]
    )
    assert late.replicas is None and "main: the measurement is INVALID" in late.sentence
    write_prompts(tmp_path / "sessions", {"q": "a"})
    following = Prompt(id="next", set="eval", messages={"short": []}, after="q")
    with (tmp_path / "sessions/prompts.jsonl").open("ab") as file:
        file.write(msgspec.json.encode(following) + b"\n")
    turns = [request(i, "q" if i % 2 else "next", i * 100, 50 + i % 7) for i in range(100)]
    sessions = one_stage(tmp_path / "sessions", turns)
    assert sessions.replicas is None and "main: its arrivals are sessions" in sessions.sentence
    assert (
        one_stage(tmp_path / "even", STEADY).replicas == 14
    )  # 100 / (10 x 0.8) is 12.5; and a spare


def test_limits_relative_to_the_baseline_say_nothing_of_the_baseline(tmp_path: Path) -> None:
    run_inputs = inputs(
        tmp_path, ["base"], Goals({"latency_p95": "1.1x"}, plan={"peak_rate": "100/s"})
    )
    for block in (1, 2, 3):
        write_journal(tmp_path, "base", block, STEADY)
    assert (
        "relative to this variant, the baseline"
        in plan_capacity(analyse(run_inputs), run_inputs).variants[0].sentence
    )


def test_a_rate_that_is_not_settled_is_told_from_one_that_fails(tmp_path: Path) -> None:
    scattered = [
        request(i, "q", i * 100, 10 + i * 37 % 100 * 2) for i in range(100)
    ]  # p95 is 198 of 200 ms
    plan = one_stage(tmp_path, scattered)
    assert plan.replicas is None
    assert plan.sentence.startswith(
        "at 10 requests/s it is not settled whether it meets the SLO; measure longer"
    )


@pytest.mark.parametrize("headroom", ["100%", 1, "120%"])
def test_a_replica_kept_free_altogether_is_refused(headroom: object) -> None:
    with pytest.raises(ValidationError):
        PlanConfig.model_validate({"peak_rate": 100, "headroom": headroom})


def test_a_plan_may_go_without_spare_replicas_but_not_below() -> None:
    assert PlanConfig.model_validate({"peak_rate": "1/s", "spare": 0}).spare == 0
    with pytest.raises(ValidationError):
        PlanConfig.model_validate({"peak_rate": "1/s", "spare": -1})
