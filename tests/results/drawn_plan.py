"""A capacity plan of made-up variants whose numbers agree with one another.

Each variant has a true capacity c and an unloaded p95 of b ms; at r requests/s its p95 is
b (0.6 + 0.4 / (1 - r / c)), known to 4 % from a model, and measured at three rates.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from results.capacity.plan.capacity_plan import (
    HOURS_PER_MONTH,
    Audit,
    BreakEvenRate,
    CapacityPlan,
    DayPart,
    DayPlan,
    Fleet,
    Investment,
    LoadPoint,
    Merits,
    MetricBand,
    ParetoPoint,
    RateCurve,
    ScaledCapacity,
    VariantCapacity,
    WhatIf,
)
from results.summary import Estimate

LIMIT = 600.0
PEAK, HEADROOM, SPARE, PRICE = 120.0, 0.2, 1, 1.1
_ERROR = 0.04
_HOURS = (8, 6, 5, 5, 6, 10, 20, 42, 70, 88, 96, 100, 104, 110, 118, 120, 112, 96, 80, 66, 50, 36,
          22, 12)  # fmt: skip


@dataclass(frozen=True)
class PlannedVariant:
    """A variant's capacity (requests/s), unloaded p95 (ms) and quality."""

    name: str
    capacity: float
    unloaded: float
    quality: float

    def p95(self, rate: float) -> float:
        """Milliseconds at `rate` requests/s, below the capacity."""
        return self.unloaded * (0.6 + 0.4 / (1 - rate / self.capacity))

    def holds(self, error: float = 0.0) -> float:
        """Requests/s at which the p95 is at the limit, where it is `error` higher at every rate."""
        share = LIMIT / (self.unloaded * (1 + error)) - 0.6
        return self.capacity * (1 - 0.4 / share)


BENCH = (
    PlannedVariant("base", 4.0, 700.0, 0.58),
    PlannedVariant("tuned", 6.0, 380.0, 0.868),
    PlannedVariant("merged", 12.0, 205.0, 0.868),
    PlannedVariant("int8", 16.0, 162.0, 0.861),
    PlannedVariant("nf4", 8.0, 318.0, 0.824),
)


def around(value: float, share: float) -> Estimate:
    return Estimate(value=value, low=value * (1 - share), high=value * (1 + share), n=100)


def fleet(variant: PlannedVariant, rate: float) -> Fleet:
    counts = [
        ceil(rate / (variant.holds(error) * (1 - HEADROOM))) + SPARE
        for error in (_ERROR, 0.0, -_ERROR)
    ]
    hour = counts[0] * PRICE
    return Fleet(
        rate=rate,
        replicas=counts[0],
        likely=counts[1],
        fewest=counts[2],
        accelerators=counts[0],
        miss=Estimate(value=0.012),
        cost_per_hour=hour,
        cost_per_month=hour * HOURS_PER_MONTH,
    )


def curve(variant: PlannedVariant) -> RateCurve:
    """The model answers up to 98 % of the capacity, and not at the last rate of the curve."""
    rates = [round(float(x), 6) for x in np.linspace(0.02, 0.98, 33) * variant.capacity]
    times = [variant.p95(rate) for rate in rates]
    good = [rate * min(1.0, (LIMIT / time) ** 2) for rate, time in zip(rates, times, strict=True)]

    def metric(values: list[float]) -> MetricBand:
        low, high = ([v * (1 + sign * _ERROR) for v in values] for sign in (-1, 1))
        return MetricBand(value=[*values, None], low=[*low, None], high=[*high, None])

    metrics = {"latency_p95": metric(times), "goodput": metric(good)}
    return RateCurve(rates=[*rates, 1.2 * variant.capacity], metrics=metrics)


def points(variant: PlannedVariant) -> list[LoadPoint]:
    rows = []
    for share, off in ((0.3, 1.02), (0.7, 0.98), (0.92, 1.03)):
        rate = round(share * variant.capacity, 2)
        time = variant.p95(rate) * off
        good = rate * min(1.0, (LIMIT / time) ** 2)
        metrics = {"latency_p95": around(time, 0.06), "goodput": around(good, 0.03)}
        outcome = "holds" if time * 1.06 < LIMIT else "fails"
        rows.append(LoadPoint(stage=f"rate-{rate:g}", rate=rate, outcome=outcome, metrics=metrics))
    return rows


def day(variant: PlannedVariant) -> DayPlan:
    fleets = [fleet(variant, float(rate)) for rate in _HOURS]
    counts = [each.replicas for each in fleets]
    running = [max(now, counts[(i + 1) % 24]) for i, now in enumerate(counts)]
    hours, constant = float(sum(running)), float(24 * max(counts))
    month = PRICE * HOURS_PER_MONTH / 24
    return DayPlan(
        parts=[
            DayPart(begins=float(i), hours=1.0, fleet=each, running=run)
            for i, (each, run) in enumerate(zip(fleets, running, strict=True))
        ],
        replica_hours=hours,
        constant_hours=constant,
        cost_per_month=hours * month,
        constant_cost=constant * month,
    )


def capacity_of(variant: PlannedVariant) -> VariantCapacity:
    if variant.unloaded > LIMIT:
        reason = "an unloaded replica's latency p95 is 700 ms already: no count of them holds"
        return VariantCapacity(
            variant=variant.name, rate_per_replica=None, lower_bound=False, replicas=None,
            cost_per_month=None, sentence=reason, reason=reason, limits={"latency_p95": LIMIT},
            rate=Estimate(value=None, reason=reason), points=points(variant)[:2],
        )  # fmt: skip
    held, peak = variant.holds(), fleet(variant, PEAK)
    rate = Estimate(value=held, low=variant.holds(_ERROR), high=variant.holds(-_ERROR))
    million = PRICE / 3600 / held * 1e6
    return VariantCapacity(
        variant=variant.name,
        rate_per_replica=rate.low,
        lower_bound=False,
        replicas=peak.replicas,
        cost_per_month=peak.cost_per_month,
        sentence=f"{peak.replicas} replicas hold {PEAK:g} requests/s.",
        rate=rate,
        source="model",
        limits={"latency_p95": LIMIT},
        curve=curve(variant),
        points=points(variant),
        peak=peak,
        mean=fleet(variant, 60.0),
        day=day(variant),
        merits=Merits(
            requests_per_accelerator=around(held, _ERROR),
            cost_per_million=around(million, _ERROR),
            cost_per_correct=around(million / 1e6 / variant.quality, 0.06),
            joules_per_request=Estimate(value=None, reason="no power was read"),
            quality=around(variant.quality, 0.03),
            latency=around(variant.p95(0.3 * variant.capacity), 0.05),
            latency_metric="latency_p95",
        ),
        quality_floor="holds",
        notes=["the KV cache was never full, so that preemption is not in the model"],
    )


def investment(variant: PlannedVariant, saved: float) -> Investment:
    tuning = 38.0
    shown = saved > 0
    missing = Estimate(value=None, reason="nothing is saved")
    base = BENCH[0]
    return Investment(
        variant=variant.name,
        instead_of=base.name,
        rate=60.0,
        quality=around(variant.quality - base.quality, 0.08),
        latency=around(variant.p95(1.0) - base.p95(1.0), -0.05),
        latency_metric="latency_p95",
        tokens=around(-4.1e10, -0.05),
        saved=around(saved, 0.3 if shown else -0.3),
        tuning_cost=tuning,
        months=Estimate(value=tuning / saved, low=tuning / saved / 1.3, high=tuning / saved / 0.7)
        if shown
        else missing,
        answer="yes" if shown else "no",
        sentence="yes: it saves more than it costs" if shown else "no: it costs more a month",
    )


def audits() -> list[Audit]:
    int8 = BENCH[3]
    expected = {
        "latency_p95": around(int8.p95(8.0), _ERROR),
        "ttft_p95": around(88.0, _ERROR),
        "goodput": around(8.0, 0.02),
    }
    measured = {
        "latency_p95": around(int8.p95(8.0) * 1.02, 0.05),
        "ttft_p95": around(108.0, 0.05),
        "goodput": around(7.96, 0.02),
    }
    past = Audit(
        variant="int8", rate=8.0, expected_outcome="holds", expected=expected, source="model",
        sentence="measured: int8 at 8 requests/s not as planned: the SLO holds", measured=measured,
        outcome="holds", inside={"latency_p95": True, "ttft_p95": False, "goodput": True},
        measured_at="2026-11-27T10:00:00Z",
    )  # fmt: skip
    now = Audit(
        variant="int8", rate=9.5, expected_outcome="holds", source="model",
        expected={"latency_p95": around(int8.p95(9.5), _ERROR)},
        sentence="not measured: int8 at 9.5 requests/s; --audit measures it",
    )  # fmt: skip
    return [past, now]


def drawn_plan(name: str = "news-topics") -> CapacityPlan:
    """A plan with all that a plan can have."""
    capacities = [capacity_of(variant) for variant in BENCH]
    known = [variant for variant in capacities if variant.merits is not None]
    tuned, merged, int8, nf4 = BENCH[1:]
    return CapacityPlan(
        schema_version=1,
        name=name,
        peak_rate=PEAK,
        mean_rate=60.0,
        headroom=HEADROOM,
        spare=SPARE,
        accelerator="H100",
        price_hour=PRICE,
        recommended="int8",
        sentence=(
            f"int8 on {capacities[3].replicas} accelerators holds 120 requests/s for "
            f"${capacities[3].cost_per_month:,.0f} a month, and misses the SLO with 1.2 %"
        ),
        variants=capacities,
        break_even=[
            BreakEvenRate(
                variant="int8", instead_of="merged", rate=merged.holds(_ERROR) * 0.8, up_to=1200.0,
                sentence="from 5.94 requests/s on, int8 costs less than merged or the same",
            ),
            BreakEvenRate(
                variant="merged", instead_of="nf4", rate=nf4.holds(_ERROR) * 0.8, up_to=1200.0,
                sentence="from 2.66 requests/s on, merged costs less than nf4 or the same",
            ),
        ],
        pareto=[
            ParetoPoint(
                variant=each.variant,
                quality=each.merits.quality.value,
                latency=each.merits.latency.value,
                cost=each.merits.cost_per_million.value,
                beaten_by={"tuned": "merged", "nf4": "merged"}.get(each.variant),
            )
            for each in known
            if each.merits is not None
        ],
        scaled=[
            ScaledCapacity(
                variant="int8", accelerator="H200", factor=1.4,
                rule="estimate: memory bandwidth, 4.8 TB/s over 3.35 TB/s",
                rate=around(int8.holds() * 1.4, _ERROR), peak=fleet(int8, PEAK),
                cost_per_million=around(25.0, _ERROR),
            )
        ],
        audits=audits(),
        investments=[investment(int8, 90.0), investment(merged, 40.0), investment(tuned, -25.0)],
        what_if=[
            WhatIf(question="rate*10", variants=[], sentence="int8 needs 137 replicas then")
        ],
        notes=["nothing is known beyond 1.5 times the largest measured rate"],
    )  # fmt: skip
