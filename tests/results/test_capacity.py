"""Replicas from measured rates."""

from __future__ import annotations

from pathlib import Path

import pytest

from results import analyse, plan_capacity
from results.capacity import replicas_for
from results.summary import VariantCapacity
from tests.results.synthetic import Asked, inputs, request, write_journal

SLO = {"latency_p95": "200ms"}


@pytest.mark.parametrize(
    ("peak", "rate", "headroom", "spare", "replicas"),
    [(120, 10, 0.2, 1, 16), (10, 10, 0, 0, 1), (8, 10, 0.2, 0, 1), (8.1, 10, 0.2, 0, 2), (0.5, 10, 0.2, 1, 2)],
)
def test_replicas_by_hand(peak: float, rate: float, headroom: float, spare: int, replicas: int) -> None:
    assert replicas_for(peak, rate, headroom, spare) == replicas


def planned(run: Path, latencies: dict[float, float], slo: dict[str, str] = SLO) -> VariantCapacity:
    """A stage for each rate, with its latency."""
    for rate, latency in latencies.items():
        for block in (1, 2, 3):
            records = [request(i, "q", i * 1000 / rate, latency + i % 7, 20) for i in range(100)]
            stage = "main" if rate == min(latencies) else f"rate-{rate:g}"
            write_journal(run, "base", block, records, stage=stage, offered_rate=rate, window_ms=(0, 100_000 / rate))
    asked = inputs(
        run, ["base"], Asked(slo, budget={"price": {"accelerator_hour": "$2"}}, plan={"peak_rate": "100/s", "headroom": 0.2})
    )
    return plan_capacity(analyse(asked), asked).variants[0]


def test_the_highest_rate_that_met_the_slo(tmp_path: Path) -> None:
    """5 and 10 hold, 20 does not: 100 / (10 x 0.8) is 12.5, so 13 and a spare; at $2 and 730 hours."""
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
    assert "none of the measured rates (5 requests/s)" in plan.sentence
    assert "names no slo" in planned(tmp_path / "without", {5: 100}, {}).sentence
