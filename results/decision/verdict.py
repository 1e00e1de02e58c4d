"""The verdict on each variant: every objective held against its limit, the one that binds, and what is made of them.

SHIP needs every objective shown to hold, DON'T SHIP needs one shown to fail; else it is INCONCLUSIVE, with what would settle it.
The bounds come from the analysis (`objectives`); nothing is measured or estimated here.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from msgspec.structs import replace

from results.decision.advice import advise, worth_it
from results.decision.objectives import Asked, asked_of, fixed_limit, outcome_of, undecided
from results.decision.sentences import headline, objective_sentence, overall, reasons
from results.inputs import RunInputs
from results.statistics.intervals import absent
from results.summary import (
    SCHEMA_VERSION,
    Decision,
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
        variant.variant: _decide(judged[variant.variant], _stage(variant))
        for variant in summary.variants
    }
    ranked = _ranked(summary, decisions)
    return Verdicts(
        schema_version=SCHEMA_VERSION,
        name=summary.name,
        baseline=summary.baseline,
        recommended=next(iter(ranked), None),
        headline=_overall(summary, judged, decisions, ranked),
        variants=[
            _verdict(variant, summary, inputs, judged, decisions, ranked)
            for variant in summary.variants
        ],
    )


def is_settled(verdict: VariantVerdict) -> bool:
    """Whether all that is asked of a variant is decided; a variant of which nothing is asked leaves nothing open."""
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
    stage = _stage(variant)
    binding = _binding(objectives)
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
            inputs.failed.get(variant.variant),
        ),
        reasons=[*reasons(objectives, stage), *_shown(variant, decision, objectives, summary)],
        objectives=objectives,
        binding=binding.label if binding else None,
        question=worth_it(variant, binding, summary) if binding and decision != "SHIP" else None,
        advice=advise(variant, binding, summary, inputs, passing)
        if binding and decision != "SHIP"
        else [],
    )


def _stage(variant: VariantSummary) -> StageSummary | None:
    return next((stage for stage in variant.stages if stage.stage == variant.judged_stage), None)


def _objectives(variant: VariantSummary, inputs: RunInputs) -> list[Objective]:
    stage = _stage(variant)
    found = []
    for asked in asked_of(inputs, variant.variant):
        of = variant.judged.get(asked.key) or (stage.judged.get(asked.key) if stage else None)
        of = of or undecided(
            absent("not measured"),
            fixed_limit(asked),
            f"stage {variant.judged_stage} was not measured",
        )
        found.append(_objective(asked, of, stage))
    return found


def _objective(asked: Asked, judged: Judged, stage: StageSummary | None) -> Objective:
    outcome = outcome_of(asked, judged)
    value, limit = judged.value.value, judged.limit
    return Objective(
        kind=asked.kind,
        metric=asked.metric,
        label=asked.label,
        unit=asked.unit,
        value=_between_bounds(asked, judged),
        limit=limit,
        limit_text=asked.text,
        margin=None if value is None or limit is None else _margin(asked, value, limit),
        outcome=outcome,
        sentence=objective_sentence(asked, judged, outcome, stage),
        more=judged.more,
    )


def _between_bounds(asked: Asked, judged: Judged) -> Estimate:
    """The value with the bounds that decide, in place of its interval: a report shows why something is not settled."""
    low, high = (
        (judged.optimistic, judged.pessimistic)
        if asked.better == "lower"
        else (judged.pessimistic, judged.optimistic)
    )
    return replace(judged.value, low=low, high=high)


def _margin(asked: Asked, value: float, limit: float) -> float:
    """Inside the limit as a share of it; a limit of zero is no measure, and there the distance itself stands."""
    inside = limit - value if asked.better == "lower" else value - limit
    return inside / abs(limit) if limit else inside


def _binding(objectives: Sequence[Objective]) -> Objective | None:
    """The one that decides: of those that fail, else of those unsettled, else of all, the one with the least margin."""
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
    found = summary.resolution.get(variant.variant)
    measured = not objectives or any(
        o.outcome == "unsettled" and o.value.value is not None for o in objectives
    )
    return [found.sentence] if found is not None and decision == "INCONCLUSIVE" and measured else []


def _ranked(summary: Summary, decisions: dict[str, Decision]) -> list[str]:
    """The variants that may ship, best first: cheap and fast ones among those not shown to be under the best quality."""
    ready = [variant for variant in summary.variants if decisions[variant.variant] == "SHIP"]
    if not ready:
        return []
    best = max(ready, key=lambda v: v.metrics["quality"].value or 0.0).metrics["quality"]

    def rank(variant: VariantSummary) -> tuple[bool, bool, float, float]:
        stage, quality = _stage(variant), variant.metrics["quality"].value or 0.0
        latency = stage.metrics["latency_mean"].value if stage else None
        cost = variant.metrics["cost_per_request"].value
        return (
            quality < (best.low or 0.0),
            variant.variant == summary.baseline,
            round(log(cost), 1) if cost else 0.0,
            latency if latency is not None else float("inf"),
        )

    return [variant.variant for variant in sorted(ready, key=rank)]


def _overall(
    summary: Summary,
    judged: dict[str, list[Objective]],
    decisions: dict[str, Decision],
    ranked: Sequence[str],
) -> str:
    asked = {name: decisions[name] for name, objectives in judged.items() if objectives}
    return overall(
        summary.baseline,
        asked,
        ranked,
        {v.variant: v.metrics["quality"].value for v in summary.variants},
    )
