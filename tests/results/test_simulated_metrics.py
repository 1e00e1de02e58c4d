"""The metrics of a simulation, against numbers worked out by hand and against numpy's."""

from __future__ import annotations

import numpy as np
import pytest

from results.capacity.demand.demand import Demand
from results.capacity.model.engine_model import LoadRange
from results.capacity.simulation.metrics import FAMILIES, distribution, simulated_metrics
from results.capacity.simulation.simulated import Simulated
from results.config import Slo
from results.metrics import RECORDS, SLO_METRICS

NOTHING = np.zeros(0)


def served(demand: Demand, **moments: list[float]) -> Simulated:
    """Requests of which the first tenth fills the replica."""
    n = len(demand)
    columns = {name: np.array(each, float) for name, each in moments.items()}
    return Simulated(
        queued=columns["queued"],
        scheduled=columns["scheduled"],
        first=columns["first"],
        last=columns["last"],
        replica=np.zeros(n, np.int64),
        preemptions=np.zeros(n, np.int64),
        gaps=np.array([0.1, 0.3]),
        gap_tokens=np.array([30, 10]),
        settled=float(demand.arrival[n // 10]),
        delivery=0.25,
        reached=LoadRange(1, 1, 1, 1, 1),
    )


def test_every_time_is_counted_from_the_right_moment() -> None:
    demand = Demand.of(np.array([0.0, 2, 10]), np.array([3, 3, 3]), np.array([1, 5, 2]))
    simulated = served(
        demand, queued=[0.5, 2.5, 10.5], scheduled=[1, 4, 11], first=[2, 5, 13], last=[2, 7, 14]
    )
    metrics = simulated_metrics(simulated, demand, Slo({"ttft_p50": "2500ms"}))
    assert metrics["latency_mean"] == metrics["service_latency_mean"] == pytest.approx(11e3 / 3)
    assert metrics["ttft_mean"] == metrics["service_ttft_mean"] == pytest.approx(8e3 / 3)
    assert metrics["tpot_mean"] == pytest.approx((500 + 1000) / 2)  # the first has one token
    assert metrics["wait_mean"] == pytest.approx(500)
    assert metrics["queue_mean"] == pytest.approx(2500 / 3)
    assert metrics["prefill_mean"] == pytest.approx((750 + 750 + 1750) / 3)
    assert metrics["itl_mean"] == pytest.approx(150)
    assert metrics["requests_per_s"] == pytest.approx(0.2)  # in 10 s: the third ends after them
    assert metrics["output_tokens_per_s"] == pytest.approx(0.6)
    assert metrics["total_tokens_per_s"] == pytest.approx(1.2)
    assert metrics["slo_attainment"] == pytest.approx(1 / 3)
    assert metrics["goodput"] == pytest.approx(0.1)
    assert metrics["error_rate"] == 0
    assert metrics.keys() <= RECORDS.keys()
    assert "latency_p50" not in metrics  # stated from 20 requests on


def test_percentiles_are_numpys_and_leave_out_the_warm_up() -> None:
    rng, n = np.random.default_rng(5), 400
    demand = Demand.of(np.arange(n, dtype=float), np.ones(n, int), np.full(n, 2))
    last = demand.arrival + rng.exponential(1, n)
    simulated = served(
        demand, queued=demand.arrival.tolist(), scheduled=demand.arrival.tolist(),
        first=last.tolist(), last=last.tolist(),
    )  # fmt: skip
    values = distribution(simulated, demand, "latency")
    counted = (last - demand.arrival)[40:] * 1e3
    assert values.keys() == {f"latency_{s}" for s in ("mean", "p50", "p90", "p95")}
    for q in (50, 90, 95):
        assert values[f"latency_p{q}"] == pytest.approx(np.percentile(counted, q))
    gaps = distribution(simulated, demand, "itl")
    assert gaps == {"itl_mean": pytest.approx(150), "itl_p50": pytest.approx(100)}


def test_every_time_that_an_slo_can_name_is_simulated() -> None:
    times = {RECORDS[key].family for key in SLO_METRICS if RECORDS[key].kind == "time"}
    assert times == set(FAMILIES)


@pytest.mark.parametrize("slo", [{}, {"latency_p95": "1.1x"}, {"error_rate": "1%"}])
def test_goodput_needs_a_limit_in_numbers(slo: dict[str, str]) -> None:
    demand = Demand.of(np.array([0.0, 1]), np.array([1, 1]), np.array([1, 1]))
    simulated = served(demand, queued=[0, 1], scheduled=[0, 1], first=[1, 2], last=[1, 2])
    metrics = simulated_metrics(simulated, demand, Slo(slo))
    assert "goodput" not in metrics and "slo_attainment" not in metrics
