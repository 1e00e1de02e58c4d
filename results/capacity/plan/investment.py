"""When fine-tuning pays: what it gives, what it saves a month, and when it is earned back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from foundation.format import dollars, points, quantity
from results.capacity.plan.capacity_plan import HOURS_PER_MONTH, Fleet, Investment, VariantCapacity
from results.capacity.plan.fleet import ReplicaPrice
from results.capacity.plan.merits import latency_metric, scaled
from results.comparison.break_even import TUNED
from results.config import PlanConfig
from results.inputs import RunInputs
from results.summary import Estimate, Summary, VariantSummary

_Answer = Literal["yes", "no", "not shown", "not known"]
SECONDS_PER_MONTH = HOURS_PER_MONTH * 3600
_NOT_COMPARED = Estimate(value=None, reason="not compared with the baseline")


def investments(
    summary: Summary,
    inputs: RunInputs,
    plan: PlanConfig,
    capacities: Mapping[str, VariantCapacity],
    prices: Mapping[str, ReplicaPrice],
) -> list[Investment]:
    """Whether each variant that was tuned pays, against the baseline."""
    kinds = {record.name: record.kind for record in inputs.variants}
    return [
        _investment(variant, summary, inputs, plan, capacities, prices)
        for variant in summary.variants
        if kinds[variant.variant] in TUNED and variant.variant != inputs.baseline
    ]


def _investment(
    variant: VariantSummary,
    summary: Summary,
    inputs: RunInputs,
    plan: PlanConfig,
    capacities: Mapping[str, VariantCapacity],
    prices: Mapping[str, ReplicaPrice],
) -> Investment:
    name, baseline = variant.variant, inputs.baseline
    metric, rate = latency_metric(inputs), plan.mean if plan.mean is not None else plan.peak
    stage = variant.at_judged_stage
    differences = {**(stage.differences if stage else {}), **variant.differences}
    quality, latency, tokens, cost = (
        differences[key].absolute if key in differences else _NOT_COMPARED
        for key in ("quality", metric, "total_tokens_mean", "cost_per_request")
    )
    month = rate * SECONDS_PER_MONTH
    tuned, untuned = capacities[name], capacities[baseline]
    by_request = scaled(_negative(cost), month)
    saved = _saved(tuned.peak, untuned.peak, (prices[name], prices[baseline]), by_request)
    tuning = summary.break_even[name].tuning_cost if name in summary.break_even else None
    months = _months(tuning, saved)
    answer, sentence = _answer(tuned, untuned, quality, saved, tuning, months)
    return Investment(
        variant=name,
        instead_of=baseline,
        rate=rate,
        quality=quality,
        latency=latency,
        latency_metric=metric,
        tokens=scaled(tokens, month),
        saved=saved,
        tuning_cost=tuning,
        months=months,
        answer=answer,
        sentence=sentence,
    )


def _negative(each: Estimate) -> Estimate:
    value, low, high = (None if x is None else -x for x in (each.value, each.high, each.low))
    return Estimate(value=value, low=low, high=high, n=each.n, reason=each.reason)


def _saved(
    tuned: Fleet | None,
    untuned: Fleet | None,
    prices: tuple[ReplicaPrice, ReplicaPrice],
    by_request: Estimate,
) -> Estimate:
    """Dollars a month. By the hour it is of the fleets for the peak, worst against best for ends.

    `prices`: of a replica of both. `by_request`: what is saved where requests are metered.
    """
    ours, theirs = (price.replica_hour for price in prices)
    if ours is None or theirs is None:
        return by_request
    if tuned is None or untuned is None:
        return Estimate(value=None, reason="one of the two holds no rate within the SLO")

    def saved(their_count: int, our_count: int) -> float:
        return (their_count * theirs - our_count * ours) * HOURS_PER_MONTH

    value = saved(untuned.likely or untuned.replicas, tuned.likely or tuned.replicas)
    low = None if untuned.fewest is None else saved(untuned.fewest, tuned.replicas)
    high = None if tuned.fewest is None else saved(untuned.replicas, tuned.fewest)
    return Estimate(
        value=value,
        low=None if low is None else min(low, value),
        high=None if high is None else max(high, value),
    )


def _months(tuning: float | None, saved: Estimate) -> Estimate:
    """Months until `tuning` dollars are saved, with the interval of what is saved."""
    if tuning is None:
        return Estimate(value=None, reason="what tuning cost is not known; write budget.tuning")
    if saved.value is None:
        return Estimate(value=None, reason=saved.reason)
    if saved.value <= 0:
        return Estimate(value=None, reason="nothing is saved")
    shown = saved.low is not None and saved.low > 0
    return Estimate(
        value=tuning / saved.value,
        low=tuning / saved.high if saved.high else None,
        high=tuning / saved.low if saved.low is not None and saved.low > 0 else None,
        reason=None if shown else "that anything is saved is not shown",
    )


def _answer(
    tuned: VariantCapacity,
    untuned: VariantCapacity,
    quality: Estimate,
    saved: Estimate,
    tuning: float | None,
    months: Estimate,
) -> tuple[_Answer, str]:
    """Whether to invest, and the sentence that says so."""
    name, base = tuned.variant, untuned.variant
    gained = (
        "its change of quality is not known"
        if quality.value is None
        else f"quality {points(quality.value)}"
    )
    if tuned.peak is None:
        return "no", f"no: {name} holds no rate within the SLO: {tuned.reason}"
    if tuned.quality_floor == "fails":
        return "no", f"no: {name} is shown to miss the quality that is asked for ({gained})"
    once = "an unknown price" if tuning is None else dollars(tuning)
    if untuned.peak is None or untuned.quality_floor == "fails":
        why = (
            f"{base} is shown to miss the quality floor and {name} is not"
            if untuned.peak
            else f"{base} holds no rate within the SLO, and {name} holds one"
        )
        return "yes", f"yes: {why}; tuning cost {once}, once ({gained})"
    if saved.value is None:
        return "not known", f"not known: {saved.reason} ({gained})"
    if saved.value <= 0:
        more = f"{dollars(-saved.value)} more a month than" if saved.value else "as much as"
        return "no", f"no, not by cost: {name} costs {more} {base}; {gained}"
    month = f"{name} saves {dollars(saved.value)} a month against {base}"
    if months.value is None:
        return "not known", f"not known: {month}, but {months.reason}; {gained}"
    if months.reason is not None:
        return "not shown", f"not shown: {month}, which may be chance; {gained}"
    back = f"{dollars(tuning or 0.0)} of tuning come back in {quantity(months.value, 'months')}"
    ends = f" ({months.low:.3g} to {months.high:.3g})" if months.low and months.high else ""
    return "yes", f"yes: {month}, and {back}{ends}; {gained}"
