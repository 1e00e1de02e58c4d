"""How many replicas a peak needs: from the rates that were measured, never beyond them."""

from __future__ import annotations

from math import ceil

from results.inputs import RunInputs
from results.objectives import Asked, asked_of, outcome_of
from results.report.format import dollars
from results.summary import SCHEMA_VERSION, CapacityPlan, Outcome, StageSummary, Summary, VariantCapacity, VariantSummary

HOURS_PER_MONTH = 730.0


def plan_capacity(summary: Summary, inputs: RunInputs) -> CapacityPlan:
    """Replicas and cost for the peak of `inputs.plan`, which must be there."""
    if inputs.plan is None:
        raise ValueError("no section plan: a capacity plan needs a peak_rate")
    return CapacityPlan(
        schema_version=SCHEMA_VERSION,
        name=summary.name,
        peak_rate=inputs.plan.peak_rate,
        headroom=inputs.plan.headroom,
        spare=inputs.plan.spare,
        variants=[_plan(variant, inputs) for variant in summary.variants],
    )


def _plan(variant: VariantSummary, inputs: RunInputs) -> VariantCapacity:
    assert inputs.plan is not None
    slos = [asked for asked in asked_of(inputs, variant.variant) if asked.kind == "slo"]
    open_loop = sorted((s for s in variant.stages if s.offered_rate is not None), key=lambda s: s.offered_rate or 0.0)
    rate, bound, why = _rate(open_loop, slos)
    if rate is None:
        return VariantCapacity(
            variant=variant.variant, rate_per_replica=None, lower_bound=False, replicas=None, cost_per_month=None,
            sentence=f"{variant.variant}: {why}",
        )  # fmt: skip
    plan = inputs.plan
    replicas = replicas_for(plan.peak_rate, rate, plan.headroom, plan.spare)
    price = inputs.budget.price if inputs.budget else None
    month = None
    if price and price.accelerator_hour is not None:
        month = replicas * price.accelerators * price.accelerator_hour * HOURS_PER_MONTH
    cost = f", {dollars(month)} a month" if month is not None else ""
    return VariantCapacity(
        variant=variant.variant,
        rate_per_replica=rate,
        lower_bound=bound,
        replicas=replicas,
        cost_per_month=month,
        sentence=(
            f"{variant.variant}: one replica holds {'at least ' if bound else ''}{rate:g} requests/s within the SLO; "
            f"{plan.peak_rate:g} requests/s with {plan.headroom:.0%} headroom and {plan.spare} spare need "
            f"{replicas} replicas{cost}; {why}"
        ),
    )


def replicas_for(peak: float, rate: float, headroom: float, spare: int) -> int:
    """`ceil(peak / (rate x (1 - headroom))) + spare`."""
    return ceil(round(peak / (rate * (1 - headroom)), 9)) + spare


def _rate(stages: list[StageSummary], slos: list[Asked]) -> tuple[float | None, bool, str]:
    """The highest offered rate shown to meet the SLO, below any that failed; whether it is but a lower bound; and why."""
    if not slos:
        return None, False, "no rate can be said to be held, since the experiment names no slo"
    if not stages:
        return None, False, "no stage has an offered rate; add stages such as {rate: 2, duration: 60s}"
    outcomes = [(stage.offered_rate or 0.0, stage_outcome(stage, slos)) for stage in stages]
    failed = [rate for rate, outcome in outcomes if outcome == "fails"]
    under = min(failed, default=float("inf"))
    held = [rate for rate, outcome in outcomes if outcome == "holds" and rate < under]
    if not held:
        tried = ", ".join(f"{rate:g}" for rate, _ in outcomes)
        return (
            None,
            False,
            f"none of the measured rates ({tried} requests/s) was shown to meet the SLO; measure lower ones, or longer",
        )
    if failed:
        return max(held), False, f"at {under:g} requests/s it breaks the SLO"
    return max(held), True, "no measured rate was shown to break the SLO, so it may hold more: measure higher ones"


def stage_outcome(stage: StageSummary, slos: list[Asked]) -> Outcome:
    """Of all SLOs together."""
    outcomes = {outcome_of(asked, stage.judged[asked.key]) for asked in slos}
    if stage.validity.level == "INVALID":
        return "unsettled"
    return "fails" if "fails" in outcomes else "unsettled" if "unsettled" in outcomes else "holds"
