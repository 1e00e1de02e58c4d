"""What a variant gives and costs at the rate that one replica holds, and which are beaten."""

from __future__ import annotations

from collections.abc import Sequence

from results.capacity.plan.capacity_plan import Merits, ParetoPoint
from results.capacity.plan.fleet import ReplicaPrice
from results.inputs import RunInputs
from results.measures.cost import over_quality
from results.metrics import RECORDS
from results.summary import Estimate, VariantSummary

LATENCY = "latency_p95"
"""The latency of a run whose SLO names no time."""


def latency_metric(inputs: RunInputs) -> str:
    """The time that the SLO names first, else `LATENCY`."""
    return next((key for key in inputs.slo.limits if RECORDS[key].kind == "time"), LATENCY)


def merits(
    variant: VariantSummary, rate: Estimate, price: ReplicaPrice, inputs: RunInputs
) -> Merits:
    """The merits of a variant whose replica holds `rate` requests/s."""
    metric = latency_metric(inputs)
    stage = variant.at_judged_stage
    measured = {**(stage.metrics if stage else {}), **variant.metrics}
    missing = Estimate(value=None, reason="not measured")
    quality = measured.get("quality", missing)
    each = scaled(rate, 1 / price.accelerators)
    million = cost_per_million(rate, price)
    return Merits(
        requests_per_accelerator=each,
        cost_per_million=million,
        cost_per_correct=_per_correct(million, quality),
        joules_per_request=measured.get("energy_per_request", missing),
        quality=quality,
        latency=measured.get(metric, missing),
        latency_metric=metric,
    )


def scaled(estimate: Estimate, factor: float) -> Estimate:
    """The estimate times a positive factor."""
    value, low, high = (
        None if each is None else each * factor
        for each in (estimate.value, estimate.low, estimate.high)
    )
    return Estimate(value=value, low=low, high=high, n=estimate.n, reason=estimate.reason)


def cost_per_million(rate: Estimate, price: ReplicaPrice) -> Estimate:
    """Dollars per million requests, every replica in full use at `rate`."""
    if price.request is not None:
        return Estimate(value=price.request * 1e6)
    if price.replica_hour is None:
        return Estimate(value=None, reason="there is no price")
    if rate.low is None:
        return Estimate(value=None, reason=rate.reason)
    value, low, high = (
        None if each is None else price.replica_hour / 3600 / each * 1e6
        for each in (rate.value, rate.high, rate.low)
    )
    return Estimate(value=value, low=low, high=high, n=rate.n, reason=rate.reason)


def deciding_cost(cost: Estimate) -> float | None:
    """The cost that goes by the lower bound of capacity, where there is an interval."""
    return cost.high if cost.high is not None else cost.value


def _per_correct(million: Estimate, quality: Estimate) -> Estimate:
    """Dollars per correct answer; of a cost that is only bounded, the bounds."""
    each = scaled(million, 1e-6)
    if each.value is not None:
        return over_quality(each, quality)
    if each.high is None or not quality.value:
        return Estimate(value=None, reason=each.reason if quality.value else quality.reason)
    low = each.low / quality.high if each.low is not None and quality.high else None
    high = each.high / quality.low if quality.low else None
    return Estimate(value=None, low=low, high=high, reason=each.reason)


def pareto(variants: Sequence[tuple[str, Merits]]) -> list[ParetoPoint]:
    """Each variant's quality, latency and cost, and who beats it.

    Only dimensions that every variant has are compared; with none, nobody beats anybody.
    """
    points = [
        (name, (each.quality.value, each.latency.value, deciding_cost(each.cost_per_million)))
        for name, each in variants
    ]
    known = [i for i in range(3) if points and all(point[i] is not None for _, point in points)]

    def losses(point: tuple[float | None, ...]) -> list[float]:
        """The compared dimensions, each the better the lower."""
        return [(point[i] or 0.0) * (-1 if i == 0 else 1) for i in known]

    def beats(ours: list[float], theirs: list[float]) -> bool:
        return ours != theirs and all(a <= b for a, b in zip(ours, theirs, strict=True))

    return [
        ParetoPoint(
            variant=name,
            quality=point[0],
            latency=point[1],
            cost=point[2],
            beaten_by=next(
                (other for other, theirs in points if beats(losses(theirs), losses(point))), None
            ),
        )
        for name, point in points
    ]
