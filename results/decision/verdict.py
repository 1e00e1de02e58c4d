"""The verdict on each variant: every objective held against its limit, and the one that binds.

SHIP needs every objective shown to hold, DON'T SHIP needs one shown to fail; else it is
INCONCLUSIVE, with what would settle it. The bounds come from the analysis (`objectives`); nothing
is measured or estimated here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import copysign, inf, log

from msgspec.structs import replace

from results.decision.advice import advise, worth_it
from results.decision.objectives import (
    ObjectiveSpec,
    fixed_limit,
    objective_specs,
    outcome_of,
    undecided,
)
from results.decision.rivals import MARGIN
from results.decision.sentences import (
    departure_reasons,
    headline,
    objective_sentence,
    overall,
    reasons,
)
from results.inputs import RunInputs
from results.statistics.intervals import absent
from results.summary import (
    SCHEMA_VERSION,
    Decision,
    Difference,
    Estimate,
    Judged,
    Objective,
    StageSummary,
    Summary,
    VariantSummary,
    VariantVerdict,
    Verdicts,
)


def judge(summary: Summary, inputs: RunInputs) -> Verdicts:
    """A verdict for every variant, the baseline's own among them, and which of them to ship."""
    judged = {variant.variant: _objectives(variant, inputs) for variant in summary.variants}
    decisions = {
        variant.variant: _decide(judged[variant.variant], variant.at_judged_stage)
        for variant in summary.variants
    }
    gainless = _gainless(summary, decisions)
    ranked = _ranked(summary, decisions, gainless)
    return Verdicts(
        schema_version=SCHEMA_VERSION,
        name=summary.name,
        baseline=summary.baseline,
        recommended=next(iter(ranked), None),
        headline=_overall(summary, judged, decisions, ranked, gainless),
        variants=[
            _verdict(variant, summary, inputs, judged, decisions, ranked)
            for variant in summary.variants
        ],
    )


def is_settled(verdict: VariantVerdict) -> bool:
    """Whether every objective of a variant is decided. A variant without objectives is settled."""
    return verdict.decision != "INCONCLUSIVE" or not verdict.objectives


def _verdict(
    variant: VariantSummary,
    summary: Summary,
    inputs: RunInputs,
    judged: dict[str, list[Objective]],
    decisions: dict[str, Decision],
    ranked: Sequence[str],
) -> VariantVerdict:
    objectives, decision = judged[variant.variant], decisions[variant.variant]
    stage = variant.at_judged_stage
    binding = binding_of(objectives)
    passing = [name for name in ranked if name != variant.variant]
    return VariantVerdict(
        variant=variant.variant,
        decision=decision,
        is_baseline=variant.variant == summary.baseline,
        headline=headline(
            variant.variant,
            decision,
            objectives,
            binding,
            stage,
            _undecided_since(variant.variant, decision, inputs),
        ),
        reasons=[
            *departure_reasons(inputs.race, variant.variant),
            *reasons(objectives, stage),
            *_shown(variant, decision, objectives, summary),
        ],
        objectives=objectives,
        binding=binding.label if binding else None,
        question=worth_it(variant, binding, summary) if binding and decision != "SHIP" else None,
        advice=advise(variant, binding, summary, inputs, passing)
        if binding and decision != "SHIP"
        else [],
    )


def _undecided_since(variant: str, decision: Decision, inputs: RunInputs) -> str | None:
    """Why a variant has no decision: its server failed, or it is worse than another of its race."""
    if (why := inputs.failed.get(variant)) is not None:
        return f"it was not measured to the end: {why}"
    left = inputs.race.departure(variant) if inputs.race is not None else None
    if decision == "INCONCLUSIVE" and left is not None and left.reason == "worse":
        return next(iter(departure_reasons(inputs.race, variant)))
    return None


def _objectives(variant: VariantSummary, inputs: RunInputs) -> list[Objective]:
    stage = variant.at_judged_stage
    objectives = []
    for spec in objective_specs(inputs, variant.variant):
        of = variant.judged.get(spec.key) or (stage.judged.get(spec.key) if stage else None)
        of = of or undecided(
            absent("not measured"),
            fixed_limit(spec),
            f"stage {variant.judged_stage} was not measured",
        )
        objectives.append(_objective(spec, of, stage))
    return objectives


def _objective(spec: ObjectiveSpec, judged: Judged, stage: StageSummary | None) -> Objective:
    outcome = outcome_of(spec, judged)
    value, limit = judged.value.value, judged.limit
    return Objective(
        kind=spec.kind,
        metric=spec.metric,
        label=spec.label,
        unit=spec.unit,
        value=_between_bounds(spec, judged),
        limit=limit,
        limit_text=spec.text,
        margin=None if value is None or limit is None else _margin(spec, value, limit),
        outcome=outcome,
        sentence=objective_sentence(spec, judged, outcome, stage),
        more=judged.more,
    )


def _between_bounds(spec: ObjectiveSpec, judged: Judged) -> Estimate:
    """The value with the deciding bounds instead of its interval, so that a report shows them."""
    low, high = (
        (judged.optimistic, judged.pessimistic)
        if spec.better == "lower"
        else (judged.pessimistic, judged.optimistic)
    )
    return replace(judged.value, low=low, high=high)


def _margin(spec: ObjectiveSpec, value: float, limit: float) -> float:
    """The distance inside the limit, as a share of it; the distance itself for a limit of zero."""
    inside = limit - value if spec.better == "lower" else value - limit
    return inside / abs(limit) if limit else inside


def binding_of(objectives: Sequence[Objective]) -> Objective | None:
    """The objective that decides: the least margin of those that fail, else are open, else hold."""
    for outcome in ("fails", "unsettled", "holds"):
        if some := [o for o in objectives if o.outcome == outcome]:
            return min(some, key=lambda o: o.margin if o.margin is not None else float("inf"))
    return None


def _decide(objectives: Sequence[Objective], stage: StageSummary | None) -> Decision:
    outcomes = {objective.outcome for objective in objectives}
    if stage is None or stage.validity.level == "INVALID" or not outcomes:
        return "INCONCLUSIVE"
    if "fails" in outcomes:
        return "DON'T SHIP"
    return "INCONCLUSIVE" if "unsettled" in outcomes else "SHIP"


def _shown(
    variant: VariantSummary, decision: Decision, objectives: Sequence[Objective], summary: Summary
) -> list[str]:
    """Where more data may decide: what change against the baseline the blocks could have shown."""
    resolution = summary.resolution.get(variant.variant)
    measured = not objectives or any(
        o.outcome == "unsettled" and o.value.value is not None for o in objectives
    )
    return (
        [resolution.sentence]
        if resolution is not None and decision == "INCONCLUSIVE" and measured
        else []
    )


def _gainless(summary: Summary, decisions: dict[str, Decision]) -> list[str]:
    """The variants that may ship, as the baseline may, and are shown to be a step back from it.

    Such a variant is over 5 % slower or dearer, and is not shown to be better in quality, latency
    or cost. Where quality was not scored, nobody knows what a variant gains.
    """
    if decisions.get(summary.baseline) != "SHIP":
        return []
    return [
        variant.variant
        for variant in summary.variants
        if variant.variant != summary.baseline
        and decisions[variant.variant] == "SHIP"
        and _is_step_back(variant)
    ]


def _is_step_back(variant: VariantSummary) -> bool:
    stage, quality = variant.at_judged_stage, variant.differences.get("quality")
    if stage is None or quality is None or quality.absolute.value is None:
        return False
    latency = stage.differences.get("latency_mean")
    spent = [each for each in (latency, variant.differences.get("cost_per_request")) if each]
    gains = _sign(quality) > 0 or any(_sign(each) < 0 for each in spent)
    return not gains and any((each.relative.low or 0.0) > MARGIN for each in spent)


def _sign(difference: Difference) -> int:
    """1 or -1 where a difference is shown, else 0."""
    value = difference.absolute.value
    return 0 if not difference.differs or not value else int(copysign(1, value))


def _ranked(
    summary: Summary, decisions: dict[str, Decision], gainless: Collection[str]
) -> list[str]:
    """The variants that may ship, the best first.

    Among those not shown to be under the best quality, cheap and fast ones come first. The baseline
    comes after all of them but the gainless ones.
    """
    ready = [variant for variant in summary.variants if decisions[variant.variant] == "SHIP"]
    if not ready:
        return []
    best = max(ready, key=lambda v: v.metrics["quality"].value or 0.0).metrics["quality"]
    costs = {variant.variant: variant.metrics["cost_per_request"].value for variant in ready}
    cheapest = min((cost for cost in costs.values() if cost), default=1.0)

    def rank(variant: VariantSummary) -> tuple[bool, bool, bool, float, float]:
        stage, quality = variant.at_judged_stage, variant.metrics["quality"].value or 0.0
        latency = stage.metrics["latency_mean"].value if stage else None
        return (
            quality < (best.low or 0.0),
            variant.variant in gainless,
            variant.variant == summary.baseline,
            _steps_dearer(costs[variant.variant], cheapest),
            latency if latency is not None else float("inf"),
        )

    return [variant.variant for variant in sorted(ready, key=rank)]


def _steps_dearer(cost: float | None, cheapest: float) -> float:
    """By how many steps of a tenth of a logarithm a cost is above the cheapest one.

    So the order is the same in every currency. An unknown cost comes last, nothing to pay first.
    """
    if cost is None:
        return inf
    return round(log(cost / cheapest), 1) if cost else -inf


def _overall(
    summary: Summary,
    judged: dict[str, list[Objective]],
    decisions: dict[str, Decision],
    ranked: Sequence[str],
    gainless: Collection[str],
) -> str:
    decided = {name: decisions[name] for name, objectives in judged.items() if objectives}
    return overall(
        summary.baseline,
        decided,
        ranked,
        {v.variant: v.metrics["quality"].value for v in summary.variants},
        gainless,
    )
