"""The rate that one replica was measured to hold within the SLO, and one that it does not hold.

A rate is held where the times and shares of the SLO are: a floor under a rate, such as goodput, is
of the whole load, and no lower load reaches it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from results.capacity.plan.audits import audit_points
from results.capacity.plan.capacity_plan import Audit, LoadPoint
from results.capacity.plan.merits import scaled
from results.config import Limit, Slo
from results.decision.objectives import ObjectiveSpec, objective_specs, outcome_of
from results.inputs import RunInputs
from results.metrics import RECORDS
from results.summary import Estimate, Outcome, StageSummary, VariantSummary


@dataclass(frozen=True)
class MeasuredRate:
    """What the loads of one variant show.

    `held`: the highest rate, requests/s, shown to be held within the SLO, below any shown not to
    be; None where there is none. `broken`: the lowest rate shown not to be held; infinite if none
    was. `why`: what is known beyond, or why no rate is known. `limits`: the SLO's, by metric.
    """

    held: float | None
    broken: float
    why: str
    points: Sequence[LoadPoint]
    limits: dict[str, float] = field(default_factory=dict)


def measured_rate(
    variant: VariantSummary, inputs: RunInputs, audits: Sequence[Audit] = ()
) -> MeasuredRate:
    """The rates of one replica that the open-loop stages and the audits of a variant show."""
    slos = capacity_objectives(inputs, variant.variant)
    limits = slo_limits(variant, slos)
    stages = [stage for stage in variant.stages if stage.concurrency is None]
    points = [_point(stage, slos, inputs) for stage in stages]
    points += audit_points(audits, variant.variant, limits)
    loads = [point for point in points if point.left_out is None]
    broken = min((load.rate for load in loads if load.outcome == "fails"), default=inf)
    under = [load.rate for load in loads if load.outcome == "holds" and load.rate < broken]
    held = max(under) if under and slos else None
    queued = {stage.stage for stage in stages if stage.held is False}
    overloaded = all(load.stage in queued for load in loads if load.rate == broken)
    why = (
        _why_none(slos, points, broken, inputs)
        if held is None
        else _beyond(held, broken, points, overloaded)
    )
    return MeasuredRate(held, broken, why, points, limits)


def capacity_objectives(inputs: RunInputs, variant: str) -> list[ObjectiveSpec]:
    """The SLOs that say what a replica holds: those of times and shares."""
    return [
        spec
        for spec in objective_specs(inputs, variant)
        if spec.kind == "slo" and RECORDS[spec.metric].kind != "rate"
    ]


def slo_limits(variant: VariantSummary, slos: Sequence[ObjectiveSpec]) -> dict[str, float]:
    """The limits by metric, in its unit; of one relative to the baseline, that of judged stage."""
    judged = stage.judged if (stage := variant.at_judged_stage) else {}
    limits = {}
    for spec in slos:
        limit = spec.limit if not spec.relative else None
        if spec.relative and spec.key in judged:
            limit = judged[spec.key].limit
        if limit is not None:
            limits[spec.metric] = limit
    return limits


def absolute_slo(limits: Mapping[str, float]) -> Slo:
    """An SLO of these limits, by metric, in its unit."""
    return Slo.model_validate(
        {metric: Limit(f"{limit:g}", absolute=limit) for metric, limit in limits.items()}
    )


def _point(stage: StageSummary, slos: Sequence[ObjectiveSpec], inputs: RunInputs) -> LoadPoint:
    """The stage as a load of one replica; those behind a router have equal shares of it."""
    return LoadPoint(
        stage=stage.stage,
        rate=(stage.offered_rate or 0.0) / stage.replicas,
        outcome=stage_outcome(stage, slos),
        metrics={
            **goodput_of_one(stage),
            **{spec.metric: stage.judged[spec.key].value for spec in slos},
        },
        left_out=_unfit(stage, inputs),
    )


def goodput_of_one(stage: StageSummary) -> dict[str, Estimate]:
    """The goodput of one of the replicas that a stage was measured with, by its key."""
    return {
        key: scaled(stage.metrics[key], 1 / stage.replicas)
        for key in ("goodput",)
        if key in stage.metrics
    }


def _unfit(stage: StageSummary, inputs: RunInputs) -> str | None:
    """Why a stage says nothing about the rate that a replica holds; None where it does."""
    if stage.stage in inputs.uneven:
        return inputs.uneven[stage.stage]
    if stage.sessions:
        return "its arrivals are sessions, and a session is several requests"
    return "the measurement is INVALID" if stage.validity.level == "INVALID" else None


def _beyond(held: float, broken: float, points: Sequence[LoadPoint], overloaded: bool) -> str:
    """What is known beyond the rate that is held."""
    left_out = "".join(
        f"; {point.stage} does not count: {point.left_out}"
        for point in points
        if point.left_out is not None
    )
    if broken < inf:
        what = "the load is not held: the queue grows" if overloaded else "it breaks the SLO"
        return f"at {broken:g} requests/s {what}{left_out}"
    if higher := [point.rate for point in points if point.left_out is None and point.rate > held]:
        return (
            f"at {_rates(higher)} it is not settled, so it may hold more: measure longer "
            f"there{left_out}"
        )
    return (
        "no measured rate was shown to break the SLO, so it may hold more: measure higher "
        f"ones{left_out}"
    )


def _why_none(
    slos: Sequence[ObjectiveSpec], points: Sequence[LoadPoint], broken: float, inputs: RunInputs
) -> str:
    """Why no rate can be said to be held."""
    if reason := no_objective_reason(slos, inputs):
        return reason
    if not points:
        return "no stage has an offered rate; add stages such as {rate: 2, duration: 60s}"
    loads = [point for point in points if point.left_out is None]
    if not loads:
        reasons = "; ".join(f"{point.stage}: {point.left_out}" for point in points)
        return (
            f"no stage tells what one replica holds ({reasons}); add stages such as {{rate: 2, "
            "duration: 60s}"
        )
    under = [load.rate for load in loads if load.rate < broken]
    if not under:
        return (
            f"none of the measured rates ({_rates([load.rate for load in loads])}) is held within "
            "the SLO; measure lower ones"
        )
    above = f", and at {broken:g} requests/s it is shown not to" if broken < inf else ""
    return (
        f"at {_rates(under)} it is not settled whether it meets the SLO{above}; measure longer, "
        "or lower rates"
    )


def no_objective_reason(slos: Sequence[ObjectiveSpec], inputs: RunInputs) -> str | None:
    """Why the SLO asks nothing that a rate could be held within; None where it does."""
    if not inputs.slo.limits:
        return "no rate can be said to be held, since the experiment names no slo"
    if all(RECORDS[metric].kind == "rate" for metric in inputs.slo.limits):
        return "no rate can be said to be held, since the slo names no time or share"
    if not slos:
        return (
            "no rate can be said to be held: every limit of the slo is relative to this variant, "
            "the baseline"
        )
    return None


def _rates(rates: Sequence[float]) -> str:
    return f"{', '.join(f'{rate:g}' for rate in sorted(set(rates)))} requests/s"


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
