"""What a variant has once: quality, consistency and cost at the judged stage, and its size."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from results.analysis.candidate import Candidate
from results.comparison.pairing import Pairing
from results.comparison.variants import (
    cost_difference,
    exact_difference,
    no_difference,
    paired_scores,
    plain_difference,
    times,
)
from results.inputs import RunInputs
from results.measures.consistency import prompt_consistency
from results.measures.cost import COSTS, cost_metrics, over_quality
from results.measures.measured import MeasuredVariant, Scores
from results.measures.quality import NEEDS_NO_REFERENCE
from results.measures.steady_state import StageData
from results.statistics.bounded_means import score_bounds
from results.statistics.intervals import TAIL, absent, estimate
from results.summary import Difference, Estimate


def variant_metrics(inputs: RunInputs, variant: MeasuredVariant) -> dict[str, Estimate]:
    """By key; absent, with the reason, what was not measured."""
    stage = variant.stages.get(inputs.judged_stage)
    size = {"size_bytes": _size(variant.record.size_bytes)}
    if stage is None:
        unmeasured = absent(f"stage {inputs.judged_stage} was not measured")
        once = ("quality", "consistency", *COSTS, "energy_per_correct")
        return size | dict.fromkeys(once, unmeasured)
    quality = mean_score(variant.scores, _no_score(inputs, variant))
    return (
        {"quality": quality, "consistency": _consistency(stage)}
        | size
        | cost_metrics(stage, quality, inputs.budget)
        | {"energy_per_correct": _energy_per_correct(inputs, variant, quality)}
    )


def _energy_per_correct(inputs: RunInputs, variant: MeasuredVariant, quality: Estimate) -> Estimate:
    energy = variant.sampled.get(inputs.judged_stage, {}).get("energy_per_request")
    return over_quality(energy or absent("not measured"), quality)


def _size(size: int | None) -> Estimate:
    if size is None:
        return absent("not known for this variant")
    return Estimate(value=size, low=size, high=size, n=1)


def _no_score(inputs: RunInputs, variant: MeasuredVariant) -> str:
    """Why a variant without scores has none."""
    needs_one = inputs.quality.scorer not in NEEDS_NO_REFERENCE
    what = "responses have no reference" if needs_one else "prompts are not in prompts.jsonl"
    return next(iter(variant.score_notes), f"nothing to score: the {what}")


def mean_score(scores: Scores, reason: str) -> Estimate:
    """The mean of the prompts' scores; absent for `reason` if there are none."""
    if not scores:
        return absent(reason)
    values = np.array(list(scores.values()))
    return estimate(float(np.mean(values)), score_bounds(values, TAIL, TAIL), len(values))


def _consistency(stage: StageData) -> Estimate:
    by_prompt = prompt_consistency([block.requests for block in stage.blocks])
    repeats = np.array(list(by_prompt.values()))
    if not len(repeats):
        return absent("no prompt was answered more than once")
    return estimate(float(np.mean(repeats)), score_bounds(repeats, TAIL, TAIL), len(repeats))


def variant_changes(
    candidate: Candidate,
    metrics: Mapping[str, Estimate],
    base_metrics: Mapping[str, Estimate],
    pairing: Pairing | None,
) -> dict[str, Difference]:
    """The difference of each metric to the baseline's; `pairing` has the judged stage's blocks."""
    changes = {}
    for key, ours in metrics.items():
        value, base_value = ours.value, base_metrics[key].value
        if value is None or base_value is None:
            changes[key] = no_difference(ours.reason or base_metrics[key].reason or "not measured")
        elif key == "quality":
            changes[key] = paired_scores(candidate.variant.scores, candidate.base.scores)
        elif key == "size_bytes":
            changes[key] = exact_difference(value, base_value)
        elif key in _COST_SCALES and candidate.inputs.budget and pairing:
            budget, per_request = candidate.inputs.budget, base_metrics["cost_per_request"].value
            assert per_request is not None
            scale = _COST_SCALES[key] or budget.requests_per_month or 1
            changes[key] = times(cost_difference(pairing, budget.price, per_request), scale)
        else:
            reason = "no interval: this is not compared in pairs"
            changes[key] = plain_difference(value, base_value, ours.n, reason)
    return changes


_COST_SCALES = {"cost_per_request": 1, "cost_per_1000": 1000, "cost_per_month": 0}
"""By what the cost per request is multiplied; 0: by the month's requests."""
