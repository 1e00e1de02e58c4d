"""How many replicas a peak needs: from the rates that were measured, never beyond them.

A rate is held where the times and shares of the SLO are: a floor under a rate, such as goodput, is
of the whole load, and no lower load reaches it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf

from foundation.format import dollars
from results.decision.objectives import ObjectiveSpec, objective_specs, outcome_of
from results.inputs import RunInputs
from results.metrics import RECORDS
from results.summary import (
    SCHEMA_VERSION,
    CapacityPlan,
    Outcome,
    StageSummary,
    Summary,
    VariantCapacity,
    VariantSummary,
)

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
        validity=summary.validity,
        variants=[_plan(variant, inputs) for variant in summary.variants],
    )


def _plan(variant: VariantSummary, inputs: RunInputs) -> VariantCapacity:
    assert inputs.plan is not None
    slos = [
        spec
        for spec in objective_specs(inputs, variant.variant)
        if spec.kind == "slo" and RECORDS[spec.metric].kind != "rate"
    ]
    loads = [_load(stage, slos, inputs) for stage in variant.stages if stage.concurrency is None]
    rate = _held_rate([load for load in loads if load.unfit is None]) if slos else None
    if rate is None:
        return VariantCapacity(
            variant=variant.variant,
            rate_per_replica=None,
            lower_bound=False,
            replicas=None,
            cost_per_month=None,
            sentence=_why_none(slos, loads, inputs),
        )
    plan, broken = inputs.plan, _broken_rate(loads)
    replicas = replicas_for(plan.peak_rate, rate, plan.headroom, plan.spare)
    price = inputs.budget.price if inputs.budget else None
    month = None
    if price and price.accelerator_hour is not None:
        month = replicas * price.accelerators * price.accelerator_hour * HOURS_PER_MONTH
    return VariantCapacity(
        variant=variant.variant,
        rate_per_replica=rate,
        lower_bound=broken == inf,
        replicas=replicas,
        cost_per_month=month,
        sentence=(
            f"one replica holds {'at least ' if broken == inf else ''}{rate:g} requests/s within "
            f"the SLO; {plan.peak_rate:g} requests/s with {plan.headroom:.0%} headroom and "
            f"{plan.spare} spare need {replicas} replica{'s' if replicas != 1 else ''}"
            f"{f', {dollars(month)} a month' if month is not None else ''}; {_why(rate, loads)}"
        ),
    )


@dataclass(frozen=True)
class _Load:
    """A measured open-loop stage: its rate, and whether it met the SLO.

    `unfit` is why it says nothing about capacity, None if it does.
    """

    stage: str
    rate: float
    outcome: Outcome
    unfit: str | None
    overloaded: bool


def _load(stage: StageSummary, slos: Sequence[ObjectiveSpec], inputs: RunInputs) -> _Load:
    outcome = stage_outcome(stage, slos)
    return _Load(
        stage.stage, stage.offered_rate or 0.0, outcome, _unfit(stage, inputs), stage.held is False
    )


def _unfit(stage: StageSummary, inputs: RunInputs) -> str | None:
    """Why a stage says nothing about the rate that a replica holds; None where it does."""
    if stage.stage in inputs.uneven:
        return inputs.uneven[stage.stage]
    if stage.sessions:
        return "its arrivals are sessions, and a session is several requests"
    return "the measurement is INVALID" if stage.validity.level == "INVALID" else None


def _broken_rate(loads: Sequence[_Load]) -> float:
    """The lowest rate shown to break the SLO or to overload the server; infinite if none was."""
    return min(
        (load.rate for load in loads if load.unfit is None and load.outcome == "fails"), default=inf
    )


def _held_rate(loads: Sequence[_Load]) -> float | None:
    """The highest rate shown to be held within the SLO, below any that was shown not to be."""
    broken = _broken_rate(loads)
    return max(
        (load.rate for load in loads if load.outcome == "holds" and load.rate < broken),
        default=None,
    )


def _why(rate: float, loads: Sequence[_Load]) -> str:
    """What is known beyond the rate that is held."""
    fit = [load for load in loads if load.unfit is None]
    broken = _broken_rate(loads)
    left_out = "".join(
        f"; {load.stage} does not count: {load.unfit}" for load in loads if load.unfit is not None
    )
    if broken < inf:
        overloaded = all(
            load.overloaded for load in fit if load.rate == broken and load.outcome == "fails"
        )
        what = "the load is not held: the queue grows" if overloaded else "it breaks the SLO"
        return f"at {broken:g} requests/s {what}{left_out}"
    if higher := [load.rate for load in fit if load.rate > rate]:
        return (
            f"at {_rates(higher)} it is not settled, so it may hold more: measure longer "
            f"there{left_out}"
        )
    return (
        "no measured rate was shown to break the SLO, so it may hold more: measure higher "
        f"ones{left_out}"
    )


def _why_none(slos: Sequence[ObjectiveSpec], loads: Sequence[_Load], inputs: RunInputs) -> str:
    """Why no rate can be said to be held."""
    if not inputs.slo.limits:
        return "no rate can be said to be held, since the experiment names no slo"
    if all(RECORDS[metric].kind == "rate" for metric in inputs.slo.limits):
        return "no rate can be said to be held, since the slo names no time or share"
    if not slos:
        return (
            "no rate can be said to be held: every limit of the slo is relative to this variant, "
            "the baseline"
        )
    if not loads:
        return "no stage has an offered rate; add stages such as {rate: 2, duration: 60s}"
    fit = [load for load in loads if load.unfit is None]
    if not fit:
        reasons = "; ".join(f"{load.stage}: {load.unfit}" for load in loads)
        return (
            f"no stage tells what one replica holds ({reasons}); add stages such as {{rate: 2, "
            "duration: 60s}"
        )
    broken = _broken_rate(loads)
    under = [load.rate for load in fit if load.rate < broken]
    if not under:
        return (
            f"none of the measured rates ({_rates([load.rate for load in fit])}) is held within "
            "the SLO; measure lower ones"
        )
    above = f", and at {broken:g} requests/s it is shown not to" if broken < inf else ""
    return (
        f"at {_rates(under)} it is not settled whether it meets the SLO{above}; measure longer, "
        "or lower rates"
    )


def _rates(rates: Sequence[float]) -> str:
    return f"{', '.join(f'{rate:g}' for rate in sorted(set(rates)))} requests/s"


def replicas_for(peak: float, rate: float, headroom: float, spare: int) -> int:
    """`ceil(peak / (rate x (1 - headroom))) + spare`."""
    return ceil(round(peak / (rate * (1 - headroom)), 9)) + spare


def stage_outcome(stage: StageSummary, slos: Sequence[ObjectiveSpec]) -> Outcome:
    """Of all SLOs together.

    A load that was not held, its queue growing, is more than one replica holds.
    """
    if stage.validity.level == "INVALID":
        return "unsettled"
    outcomes = {outcome_of(spec, stage.judged[spec.key]) for spec in slos}
    if stage.held is False or "fails" in outcomes:
        return "fails"
    return "unsettled" if stage.held is None or "unsettled" in outcomes else "holds"
