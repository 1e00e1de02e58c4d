"""Replicas, days, break-even rates, catalogues and investments, against numbers worked by hand."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from msgspec.structs import replace
from pydantic import ValidationError

from results.capacity.plan.audits import expected_at, measured_audit, next_audit
from results.capacity.plan.break_even_rates import CostLine, break_even_rates, cheaper_from
from results.capacity.plan.capacity_plan import (
    Fleet,
    LoadPoint,
    Merits,
    MetricBand,
    RateCurve,
    VariantCapacity,
)
from results.capacity.plan.catalogue import Catalogue, scaled_capacities
from results.capacity.plan.day import day_plan
from results.capacity.plan.fleet import ReplicaPrice, fleet, miss
from results.capacity.plan.measured_rate import MeasuredRate
from results.capacity.plan.merits import cost_per_million, pareto
from results.capacity.plan.recommendation import recommend
from results.capacity.plan.replica_rate import ModelledRate, SearchedRate, replica_rate
from results.config import PlanConfig, Price
from results.summary import Estimate
from tests.results.drawn_plan import drawn_plan

TEN = Estimate(value=12.0, low=10.0, high=15.0)
HOURLY = ReplicaPrice(accelerators=2, replica_hour=4.0)


def plan(**fields: object) -> PlanConfig:
    return PlanConfig.model_validate({"peak_rate": 100, "headroom": 0.2, "spare": 1, **fields})


def test_the_lower_bound_of_capacity_decides() -> None:
    """100 / (10 x 0.8) = 12.5, / (12 x 0.8) = 10.4, / (15 x 0.8) = 8.3; and a spare each."""
    peak = fleet(100, TEN, "model", plan(), HOURLY)
    assert (peak.replicas, peak.likely, peak.fewest, peak.accelerators) == (14, 12, 10, 28)
    assert (peak.cost_per_hour, peak.cost_per_month) == (56, 56 * 730)


def test_bursts_come_on_top_and_cost_no_requests() -> None:
    """150 / 8 = 18.75: 19 and a spare. Metered, the requests are those of the rate."""
    peak = fleet(100, TEN, "model", plan(burst=1.5), ReplicaPrice(request=1e-4))
    assert peak.replicas == 20
    assert peak.cost_per_hour == pytest.approx(100 * 3600 * 1e-4)


def test_the_risk_is_that_of_a_normal_logarithm() -> None:
    """At the value half the mass lies below, at the ends of the interval 2.5 %."""
    assert miss(TEN, "model", 12.0).value == pytest.approx(0.5)
    assert miss(TEN, "model", 10.0).value == pytest.approx(0.025, rel=1e-4)
    assert miss(TEN, "model", 15.0).value == pytest.approx(0.975, rel=1e-4)
    assert miss(TEN, "model", 0.0).value == 0


def test_a_measured_rate_bounds_the_risk_and_no_more() -> None:
    measured = Estimate(value=None, low=10.0, high=15.0)
    assert (miss(measured, "measured", 10.0).value, miss(measured, "measured", 10.0).high) == (
        None,
        0.05,
    )
    above = miss(measured, "measured", 11.0)
    assert (above.value, above.high) == (None, None)
    assert above.reason is not None


def test_above_a_lower_bound_the_risk_is_not_known() -> None:
    """A model that reaches no further than 12 requests/s says nothing of 40."""
    at_least = Estimate(value=12.0, low=10.0)
    assert miss(at_least, "model", 10.0).high == 0.05
    for load in (11.0, 40.0):
        beyond = miss(at_least, "model", load)
        assert (beyond.value, beyond.low, beyond.high) == (None, None, None)
        assert beyond.reason is not None


@pytest.mark.parametrize(("low", "value", "high"), [(12.0, 12.0, 15.0), (9.0, 12.0, 12.0)])
def test_an_end_that_a_measurement_moved_to_the_value_makes_nothing_certain(
    low: float, value: float, high: float
) -> None:
    rate = Estimate(value=value, low=low, high=high)
    assert (miss(rate, "model", low).value, miss(rate, "model", low).high) == (None, 0.05)
    assert miss(rate, "model", low + 1).high is None


def test_replicas_are_up_before_the_traffic() -> None:
    """Needed 1, 1, 3, 1 in parts of 6 h. With 3 h to start, the second part ends with 3 up:
    6 x 1 + (3 x 1 + 3 x 3) + 6 x 3 + 6 x 1 = 42 replica-hours, against 36 without and 72 constant.
    """

    def fleet_for(rate: float) -> Fleet:
        return fleet(rate, Estimate(value=None, low=1.0), "measured", free, price)

    free, price = plan(headroom=0, spare=0), ReplicaPrice(1, 2.0)
    day = day_plan([1, 1, 3, 1], 24, 3 * 3600, fleet_for, price)
    assert [part.running for part in day.parts] == [1, 3, 3, 1]
    assert (day.replica_hours, day.constant_hours) == (42, 72)
    assert day.cost_per_month == pytest.approx(42 * 2 * 730 / 24)
    assert day.constant_cost == pytest.approx(3 * 2 * 730)
    at_once = day_plan([1, 1, 3, 1], 24, 0, fleet_for, price)
    assert at_once.replica_hours == 36
    assert [part.running for part in at_once.parts] == [1, 1, 3, 1]


def test_a_start_up_longer_than_parts_looks_over_several_and_past_midnight() -> None:
    """9 h are a part and a half of 6 h. The part before last sees the first of the next day."""

    def fleet_for(rate: float) -> Fleet:
        return fleet(rate, Estimate(value=None, low=1.0), "measured", free, price)

    free, price = plan(headroom=0, spare=0), ReplicaPrice(1, 2.0)
    day = day_plan([5, 1, 1, 1], 24, 9 * 3600, fleet_for, price)
    assert [part.running for part in day.parts] == [5, 1, 5, 5]
    assert day.replica_hours == 6 * 5 + 6 * 1 + (3 * 1 + 3 * 5) + 6 * 5


def test_the_break_even_of_tokens_against_replicas() -> None:
    """$0.36 an hour for each request/s, against $2 for each 10 requests/s and a spare.

    20 requests/s cost $6 in three replicas and $7.20 by the token; a fourth, for a little more,
    makes it $8, which tokens cost from 22.2 on. The fifth comes at 30, where tokens cost $10.80.
    """
    tokens = CostLine("tokens", inf, 0, ReplicaPrice(request=1e-4))
    replicas = CostLine("replicas", 10.0, 1, ReplicaPrice(1, 2.0))
    assert cheaper_from(replicas, tokens, 100) == pytest.approx(8 / 0.36)
    assert cheaper_from(tokens, replicas, 100) is None
    [row] = break_even_rates([tokens, replicas], 10)
    assert (row.variant, row.instead_of) == ("replicas", "tokens")
    assert "from 22.2 requests/s on, replicas costs no more than tokens, and less" in row.sentence


def test_a_faster_replica_is_cheaper_from_where_the_slower_needs_another() -> None:
    slow, fast = (
        CostLine(name, used, 1, HOURLY) for name, used in (("slow", 10.0), ("fast", 15.0))
    )
    assert cheaper_from(fast, slow, 100) == 10
    assert cheaper_from(slow, fast, 100) is None
    assert break_even_rates([slow, slow], 10) == []


def test_break_even_rates_are_those_of_a_search_over_rates() -> None:
    """A fine grid, computed another way, agrees."""
    rng = np.random.default_rng(5)
    for _ in range(30):
        lines = [
            CostLine(
                name, rng.uniform(3, 9), int(rng.integers(3)), ReplicaPrice(1, rng.uniform(1, 3))
            )
            for name in "ab"
        ]
        rates = np.arange(0.005, 200, 0.01)
        a, b = (
            (np.ceil(rates / line.used) + line.spare) * line.price.replica_hour for line in lines
        )
        dearer = np.flatnonzero(b > a + 1e-9)
        expected = None
        if not len(dearer):
            expected = rates[np.flatnonzero(b < a - 1e-9)[0]] if np.any(b < a - 1e-9) else None
        elif dearer[-1] < len(rates) - 1 and np.any(b[dearer[-1] :] < a[dearer[-1] :] - 1e-9):
            expected = rates[dearer[-1]]
        rate = cheaper_from(lines[1], lines[0], 200)
        assert (rate is None) == (expected is None)
        assert rate is None or rate == pytest.approx(expected, abs=0.02)


def test_a_million_requests_cost_the_hours_they_take() -> None:
    """A replica of $4 an hour holds 10 to 15 requests/s: 1e6 take 27.8 to 18.5 h."""
    cost = cost_per_million(TEN, HOURLY)
    assert cost.high == pytest.approx(1e6 / 10 / 3600 * 4)
    assert cost.low == pytest.approx(1e6 / 15 / 3600 * 4)
    assert cost_per_million(TEN, ReplicaPrice()).reason == "there is no price"
    assert cost_per_million(TEN, ReplicaPrice(request=2e-4)).value == pytest.approx(200)


def merits(quality: float | None, latency: float, cost: float) -> Merits:
    unknown = Estimate(value=None)
    return Merits(
        requests_per_accelerator=unknown,
        cost_per_million=Estimate(value=cost),
        cost_per_correct=unknown,
        joules_per_request=unknown,
        quality=Estimate(value=quality),
        latency=Estimate(value=latency),
        latency_metric="latency_p95",
    )


def test_the_front_is_what_nobody_beats_in_all() -> None:
    points = pareto(
        [
            ("good", merits(0.9, 200, 10)),
            ("fast", merits(0.8, 100, 10)),
            ("worse", merits(0.8, 150, 12)),
            ("twin", merits(0.9, 200, 10)),
        ]
    )
    assert [point.beaten_by for point in points] == [None, None, "fast", None]
    blind = pareto([("a", merits(None, 100, 10)), ("b", merits(0.9, 200, 10))])
    assert [point.beaten_by for point in blind] == [None, "a"]
    assert pareto([]) == []


CATALOGUE = {
    "accelerators": [
        {"name": "A", "price_hour": "$2", "measured": True, "memory_bandwidth": 1000},
        {"name": "B", "price_hour": "$1", "memory_bandwidth": 400},
        {"name": "C", "price_hour": "$3", "scale": 2, "rule": "our test"},
    ]
}


def test_hardware_that_was_not_measured_is_scaled_by_its_rule() -> None:
    """B has 0.4 of the bandwidth: 4 requests/s at least. 100 / (4 x 0.8) = 31.25, and a spare."""
    rows = scaled_capacities("v", TEN, plan(), Catalogue.model_validate(CATALOGUE), 1)
    assert [(row.accelerator, row.factor, row.peak.replicas) for row in rows] == [
        ("B", 0.4, 33),
        ("C", 2.0, 8),
    ]
    assert rows[0].rule == "by memory bandwidth: 400 over 1000 GB/s of A"
    assert rows[0].peak.cost_per_month == 33 * 730
    assert rows[0].peak.miss.value is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"measured": True}, "at no other"),
        ({"memory_bandwidth": None}, "write scale and rule, or memory_bandwidth"),
        ({"scale": 2}, "scale and rule go together"),
        ({"name": "A"}, "named twice"),
        ({"price_hour": "cheap"}, "an amount in dollars"),
    ],
)
def test_a_catalogue_that_says_too_little_is_refused(change: dict[str, object], words: str) -> None:
    first, second, third = CATALOGUE["accelerators"]
    with pytest.raises(ValidationError, match=words):
        Catalogue.model_validate({"accelerators": [first, {**second, **change}, third]})


def measured(held: float | None = None, broken: float = inf) -> MeasuredRate:
    return MeasuredRate(held, broken, "no rate was measured", [])


def test_the_measurement_counts_where_it_contradicts_the_model() -> None:
    model = ModelledRate(TEN)
    too_good = replica_rate(measured(5.0, 9.0), model)
    assert (too_good.source, too_good.rate.low, too_good.rate.high) == ("measured", 5.0, 9.0)
    assert "the measurement says they are not" in (too_good.contradiction or "")
    too_bad = replica_rate(measured(16.0), model)
    assert (too_bad.source, too_bad.rate.low, too_bad.rate.high) == ("measured", 16.0, None)
    nothing_held = replica_rate(measured(None, 9.0), model)
    assert nothing_held.source is None
    assert nothing_held.contradiction is not None


def test_a_measurement_inside_the_models_interval_makes_it_narrower() -> None:
    rate = replica_rate(measured(11.0, 14.0), ModelledRate(TEN))
    assert (rate.source, rate.rate.value, rate.rate.low, rate.rate.high) == ("model", 12, 11, 14)
    assert replica_rate(measured(13.0), ModelledRate(TEN)).rate.value == 13.0


def test_a_models_lower_bound_below_a_rate_that_failed_is_no_value() -> None:
    """It reaches 0.4 requests/s, and 5.5 failed: between them nobody knows."""
    bound = ModelledRate(Estimate(value=0.4, low=0.4, reason="more may be held"))
    rate = replica_rate(measured(None, 5.5), bound).rate
    assert (rate.value, rate.low, rate.high) == (None, 0.4, 5.5)
    peak = fleet(20, rate, "model", plan(), HOURLY)
    assert (peak.likely, peak.miss.value, peak.miss.high) == (None, None, 0.05)


def test_without_a_model_the_reason_is_said() -> None:
    rate = replica_rate(measured(5.0), "no stamps")
    assert (rate.source, rate.rate.low, rate.rate.high) == ("measured", 5.0, None)
    assert "no model: no stamps" in replica_rate(measured(), "no stamps").sentence
    searched = replica_rate(measured(5.0), ModelledRate(TEN), SearchedRate(10.5, 11.0))
    assert (searched.source, searched.rate.low, searched.rate.high) == ("search", 10.5, 11.0)


def test_a_model_that_may_hold_nothing_counts_beside_a_measurement_only() -> None:
    model = ModelledRate(Estimate(value=4.0, low=0.0, high=9.0, reason="that is left open"))
    alone = replica_rate(measured(), model)
    assert (alone.source, alone.rate.low) == (None, None)
    assert "by the model, that is left open" in alone.sentence
    held = replica_rate(measured(3.0), model)
    assert (held.source, held.rate.low, held.rate.high) == ("model", 3.0, 9.0)


CURVE = RateCurve(
    rates=[5.0, 10.0, 20.0],
    metrics={"ttft_p95": MetricBand(value=[10, 20, 40], low=[9, 18, None], high=[11, 22, None])},
)


def capacity(points: list[float], curve: RateCurve | None) -> VariantCapacity:
    return VariantCapacity(
        variant="v",
        rate_per_replica=10,
        lower_bound=False,
        replicas=14,
        cost_per_month=None,
        sentence="",
        rate=TEN,
        source="model",
        limits={"ttft_p95": 30.0},
        curve=curve,
        points=[LoadPoint(stage="s", rate=r, outcome="holds", metrics={}) for r in points],
        peak=fleet(100, TEN, "model", plan(), HOURLY),
    )


def test_the_load_to_audit_was_not_measured() -> None:
    first = next_audit(capacity([5.0], CURVE), [])
    assert first is not None
    assert (first.rate, first.expected["ttft_p95"]) == (10.0, Estimate(value=20, low=18, high=22))
    second = next_audit(capacity([10.1], CURVE), [])
    assert second is not None
    assert second.rate == 7.14  # 100 / 14
    done = measured_audit(first, {"ttft_p95": Estimate(value=25, low=23, high=27)}, "holds", "now")
    assert (done.inside, done.outcome, done.measured_at) == ({"ttft_p95": False}, "holds", "now")
    assert "not as planned" in done.sentence
    after = next_audit(capacity([], CURVE), [done])
    assert after is not None
    assert after.rate == 7.14


def test_without_a_model_the_limit_is_expected() -> None:
    audit = next_audit(capacity([10.0], None), [])
    assert audit is not None
    assert audit.expected["ttft_p95"].high == 30.0
    done = measured_audit(audit, {"ttft_p95": Estimate(value=29, low=28, high=30)}, "holds", "now")
    assert "as planned" in done.sentence
    assert done.inside == {"ttft_p95": True}


def test_a_curve_says_nothing_beyond_its_ends() -> None:
    assert expected_at(CURVE, 7.5)["ttft_p95"] == Estimate(value=15, low=13.5, high=16.5)
    assert expected_at(CURVE, 15.0)["ttft_p95"] == Estimate(value=30)
    assert expected_at(CURVE, 21.0) == expected_at(None, 5.0) == {}


def test_an_hourly_price_of_the_catalogue_takes_the_place_of_the_budgets() -> None:
    price = Price.model_validate({"accelerator_hour": "$1", "accelerators": 2})
    assert ReplicaPrice.of(price, None, Estimate(value=1)).replica_hour == 2
    assert ReplicaPrice.of(price, 3.0, Estimate(value=1)).replica_hour == 6
    metered = Price.model_validate({"input_per_million": "$1"})
    assert ReplicaPrice.of(metered, None, Estimate(value=1e-4)) == ReplicaPrice(request=1e-4)
    assert ReplicaPrice.of(None, None, Estimate(value=None)) == ReplicaPrice()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"peak_rate": None}, "peak_rate: missing"),
        ({"day": [1] * 23}, "24 rates or more"),
        ({"peak_rate": None, "day": [0] * 24}, "no traffic"),
        ({"day": [101] + [1] * 23}, "below the mean_rate or a rate of the day"),
        ({"mean_rate": 101}, "below the mean_rate"),
        ({"burst": 0.5}, "greater than or equal to 1"),
        ({"peak_rate": 0}, "a rate above zero"),
    ],
)
def test_traffic_that_can_not_be_planned_for_is_refused(
    fields: dict[str, object], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        plan(**fields)


def test_a_day_has_its_own_peak_and_mean() -> None:
    day = plan(peak_rate=None, day=[0] * 12 + [10, "600/min"] * 6)
    assert (day.peak, day.mean) == (10, 5)


def test_of_two_that_cost_the_same_the_faster_is_recommended() -> None:
    first = next(each for each in drawn_plan().variants if each.quality_floor == "holds")
    assert first.merits is not None and first.peak is not None
    faster = replace(
        first, variant="faster", merits=replace(first.merits, latency=Estimate(value=1.0))
    )
    for order in ([first, faster], [faster, first]):
        assert recommend(order, plan())[0] == "faster"
