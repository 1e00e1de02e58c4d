"""The capacity plan: of what was measured, of what the models say, and of prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Literal

import msgspec

from foundation.format import dollars
from results.capacity.plan.audits import next_audit
from results.capacity.plan.break_even_rates import CostLine, break_even_rates
from results.capacity.plan.capacity_plan import (
    Audit,
    BreakEvenRate,
    CapacityPlan,
    DayPlan,
    Fleet,
    ScaledCapacity,
    VariantCapacity,
)
from results.capacity.plan.catalogue import Catalogue, scaled_capacities
from results.capacity.plan.day import day_plan
from results.capacity.plan.fleet import ReplicaPrice, fleet
from results.capacity.plan.investment import investments
from results.capacity.plan.measured_rate import measured_rate
from results.capacity.plan.merits import merits, pareto
from results.capacity.plan.recommendation import recommend
from results.capacity.plan.replica_rate import ModelledRate, ReplicaRate, SearchedRate, replica_rate
from results.config import PlanConfig
from results.decision.objectives import objective_specs, outcome_of
from results.inputs import RunInputs
from results.summary import SCHEMA_VERSION, Estimate, Outcome, Summary, VariantSummary

NO_PRICE = (
    "no cost: the experiment names no price of an hour; write budget.price.accelerator_hour, or "
    "plan.catalogue"
)
OTHER_REQUESTS = "the run measured other requests than these"


@dataclass(frozen=True)
class PlanBasis:
    """What a plan rests on beside the measurement.

    `models` and `searches` are by variant; a text is the reason why there is no model. `audits`:
    those of earlier plans of this run. `requests`: by variant, what the plan is for where that was
    not measured: "lighter" requests, of which one replica holds no less, or "other" ones, of which
    only models know.
    """

    models: Mapping[str, ModelledRate | str] = field(default_factory=dict)
    searches: Mapping[str, SearchedRate] = field(default_factory=dict)
    catalogue: Catalogue | None = None
    audits: Sequence[Audit] = ()
    requests: Mapping[str, Literal["lighter", "other"]] = field(default_factory=dict)


NOTHING_MORE = PlanBasis()


def plan_capacity(
    summary: Summary, inputs: RunInputs, basis: PlanBasis = NOTHING_MORE
) -> CapacityPlan:
    """Replicas and cost for the traffic of `inputs.plan`, which must be there.

    A trace in it must have become a day before.
    """
    if inputs.plan is None:
        raise ValueError("no section plan: a capacity plan needs a peak_rate")
    plan, catalogue = inputs.plan, basis.catalogue
    prices = {v.variant: _price(v, inputs, catalogue) for v in summary.variants}
    capacities = {
        v.variant: variant_capacity(v, inputs, plan, prices[v.variant], basis)
        for v in summary.variants
    }
    able = [each for each in capacities.values() if each.peak is not None]
    recommended, sentence = recommend(list(capacities.values()), plan)
    some = next(iter(prices.values()))
    return CapacityPlan(
        schema_version=SCHEMA_VERSION,
        name=summary.name,
        peak_rate=plan.peak,
        mean_rate=plan.mean,
        headroom=plan.headroom,
        spare=plan.spare,
        burst=plan.burst,
        startup=plan.startup,
        validity=summary.validity,
        accelerator=catalogue.measured.name if catalogue else None,
        accelerators=some.accelerators,
        price_hour=None if some.replica_hour is None else some.replica_hour / some.accelerators,
        variants=list(capacities.values()),
        recommended=recommended,
        sentence=sentence,
        break_even=_break_even(able, plan, prices),
        pareto=pareto([(each.variant, each.merits) for each in able if each.merits]),
        scaled=_scaled(able, plan, catalogue, prices),
        audits=_audits(capacities, recommended, basis.audits),
        investments=investments(summary, inputs, plan, capacities, prices),
        notes=[*_notes(prices, plan), *_replica_notes(summary)],
    )


def variant_capacity(
    variant: VariantSummary,
    inputs: RunInputs,
    plan: PlanConfig,
    price: ReplicaPrice,
    basis: PlanBasis,
) -> VariantCapacity:
    """The replicas of one variant, or the reason why there is no number."""
    rate, row = _held(variant, inputs, basis)
    if rate.source is None:
        return row
    peak = fleet(plan.peak, rate.rate, rate.source, plan, price)
    mean = None if plan.mean is None else fleet(plan.mean, rate.rate, rate.source, plan, price)
    month = _month(peak, mean, price)
    sentence = f"{rate.sentence}; {_needs(peak, month, plan)}"
    return msgspec.structs.replace(
        row,
        lower_bound=rate.rate.high is None,
        replicas=peak.replicas,
        cost_per_month=month,
        sentence=f"{sentence}; {rate.beyond}" if rate.beyond else sentence,
        reason=None,
        peak=peak,
        mean=mean,
        day=_day(rate, plan, price),
        merits=merits(variant, rate.rate, price, inputs),
    )


def _held(
    variant: VariantSummary, inputs: RunInputs, basis: PlanBasis
) -> tuple[ReplicaRate, VariantCapacity]:
    """What one replica holds, and the variant's capacity without any replicas yet."""
    name = variant.variant
    measured = measured_rate(variant, inputs, basis.audits)
    if name in basis.requests:
        held = measured.held if basis.requests[name] == "lighter" else None
        measured = replace(measured, held=held, broken=inf, why=OTHER_REQUESTS, points=())
    model = basis.models.get(name)
    modelled = model if isinstance(model, ModelledRate) else None
    rate = replica_rate(measured, model, basis.searches.get(name))
    row = VariantCapacity(
        variant=name,
        rate_per_replica=rate.deciding,
        lower_bound=False,
        replicas=None,
        cost_per_month=None,
        sentence=rate.sentence,
        rate=rate.rate,
        source=rate.source,
        reason=rate.rate.reason,
        limits=measured.limits,
        curve=modelled.curve if modelled else None,
        points=list(measured.points),
        quality_floor=_quality_floor(variant, inputs),
        contradiction=rate.contradiction,
        notes=_variant_notes(model, rate),
    )
    return rate, row


def _month(peak: Fleet, mean: Fleet | None, price: ReplicaPrice) -> float | None:
    """Dollars a month: of the fleet for the peak, or metered of the mean traffic, where known."""
    if price.replica_hour is not None:
        return peak.cost_per_month
    return mean.cost_per_month if mean else None


def _needs(peak: Fleet, month: float | None, plan: PlanConfig) -> str:
    """The replicas and what a month costs, in words."""
    bursts = f" in bursts of {plan.burst:g} times that" if plan.burst > 1 else ""
    cost = f", {dollars(month)} a month" if month is not None else ""
    return (
        f"{plan.peak:g} requests/s{bursts} with {plan.headroom:.0%} headroom and {plan.spare} "
        f"spare need {peak.replicas} replica{'s' if peak.replicas != 1 else ''}{cost}"
    )


def _day(rate: ReplicaRate, plan: PlanConfig, price: ReplicaPrice) -> DayPlan | None:
    """The replicas over the day, where the plan has one."""
    source = rate.source
    if not plan.day or source is None:
        return None
    return day_plan(
        plan.day,
        plan.day_hours,
        plan.startup,
        lambda traffic: fleet(traffic, rate.rate, source, plan, price),
        price,
    )


def _scaled(
    able: Sequence[VariantCapacity],
    plan: PlanConfig,
    catalogue: Catalogue | None,
    prices: Mapping[str, ReplicaPrice],
) -> list[ScaledCapacity]:
    """The variants with a rate, on every accelerator that was not measured."""
    if catalogue is None:
        return []
    return [
        row
        for each in able
        for row in scaled_capacities(
            each.variant, each.rate, plan, catalogue, prices[each.variant].accelerators
        )
    ]


def _price(variant: VariantSummary, inputs: RunInputs, catalogue: Catalogue | None) -> ReplicaPrice:
    """What a replica of the variant costs on the measured hardware."""
    stage = variant.at_judged_stage
    metrics = {**(stage.metrics if stage else {}), **variant.metrics}
    request = metrics.get("cost_per_request", Estimate(value=None))
    hour = catalogue.measured.price_hour if catalogue else None
    price = inputs.budget.price if inputs.budget else None
    own = {record.name: record.accelerators for record in inputs.variants}
    return ReplicaPrice.of(price, hour, request, own[variant.variant])


def _quality_floor(variant: VariantSummary, inputs: RunInputs) -> Outcome | None:
    """The outcome of all quality objectives together; None where there are none."""
    outcomes = {
        outcome_of(spec, variant.judged[spec.key]) if spec.key in variant.judged else "unsettled"
        for spec in objective_specs(inputs, variant.variant)
        if spec.kind == "quality"
    }
    if not outcomes:
        return None
    return "fails" if "fails" in outcomes else "unsettled" if "unsettled" in outcomes else "holds"


def _variant_notes(model: ModelledRate | str | None, rate: ReplicaRate) -> list[str]:
    """What could not be known of the variant."""
    notes = list(model.notes) if isinstance(model, ModelledRate) else []
    if isinstance(model, str):
        notes.append(f"no model: {model}")
    if rate.contradiction:
        notes.append(rate.contradiction)
    return notes


def _break_even(
    able: Sequence[VariantCapacity], plan: PlanConfig, prices: Mapping[str, ReplicaPrice]
) -> list[BreakEvenRate]:
    """Of the variants with a rate, a price, and no quality shown to be too low."""
    lines = [
        CostLine(
            each.variant,
            each.rate.low * (1 - plan.headroom) / plan.burst,
            plan.spare,
            prices[each.variant],
        )
        for each in able
        if each.rate.low is not None
        and prices[each.variant].per_hour(1, 1) is not None
        and each.quality_floor != "fails"
    ]
    return break_even_rates(lines, plan.peak)


def _audits(
    capacities: Mapping[str, VariantCapacity], recommended: str | None, earlier: Sequence[Audit]
) -> list[Audit]:
    """Every audit that was measured, and one load to measure next: of the recommended variant.

    Where that has none, of the first variant that has.
    """
    done = [audit for audit in earlier if audit.measured is not None]
    order = sorted(capacities.values(), key=lambda each: each.variant != recommended)
    named = (next_audit(each, done) for each in order)
    following = next((audit for audit in named if audit is not None), None)
    return done if following is None else [*done, following]


def _replica_notes(summary: Summary) -> list[str]:
    """Which variants were measured with replicas: every rate of the plan is that of one."""
    return [
        f"{variant.variant} was measured with {stage.replicas} replicas ({stage.router}): the rate "
        f"of one is 1/{stage.replicas} of theirs, and its share of arrivals is as even as theirs"
        for variant in summary.variants
        if (stage := variant.at_judged_stage) is not None and stage.replicas > 1
    ]


def _notes(prices: Mapping[str, ReplicaPrice], plan: PlanConfig) -> list[str]:
    """What the plan does not know, or takes for granted."""
    notes = []
    if all(price.per_hour(1, 1) is None for price in prices.values()):
        notes.append(NO_PRICE)
    if plan.startup and not plan.day:
        notes.append("startup changes nothing without a day or a trace: no replica comes or goes")
    notes.append(
        "a replica is planned as if it alone had its share of the traffic: a router that divides "
        "it worse than at random is not in these figures"
    )
    return notes
