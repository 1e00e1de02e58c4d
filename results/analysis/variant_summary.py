"""The numbers of one variant, and its objectives of quality and budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from results.analysis.candidate import Candidate
from results.analysis.stage_summary import stage_summary
from results.analysis.variant_metrics import mean_score, variant_changes, variant_metrics
from results.comparison.variants import paired_scores
from results.decision.judging import (
    Baseline,
    judge_change,
    judge_increase,
    judge_month,
    judge_quality,
    unless_it_grew,
)
from results.decision.objectives import ObjectiveSpec, undecided
from results.decision.settling import Unit, to_settle
from results.inputs import RunInputs
from results.measures.cost import is_metered
from results.measures.measured import MeasuredVariant
from results.statistics.intervals import absent
from results.summary import Difference, Estimate, Judged, VariantSummary

_PROBE = "probe:"


@dataclass(frozen=True)
class _Changes:
    """A candidate's metrics, and how they and its probes differ from the baseline's."""

    metrics: Mapping[str, Estimate]
    metric_changes: Mapping[str, Difference]
    probe_changes: Mapping[str, Difference]


def variant_summary(
    candidate: Candidate, metrics: Mapping[str, Mapping[str, Estimate]]
) -> VariantSummary:
    """`metrics`: by variant, what each has once."""
    variant, base, inputs = candidate.variant, candidate.base, candidate.inputs
    baselines = {name: candidate.baseline(name) for name in variant.stages}
    baseline = baselines.get(inputs.judged_stage)
    ours, theirs = metrics[candidate.name], metrics[base.record.name]
    if inputs.race is not None and inputs.race.departure(candidate.name) is not None:
        theirs = variant_metrics(inputs, base)
    pairing = baseline.pairing if baseline else None
    changes = _Changes(
        ours,
        {} if candidate.is_base else variant_changes(candidate, ours, theirs, pairing),
        {
            name: paired_scores(scores, base.probe_scores.get(name, {}))
            for name, scores in variant.probe_scores.items()
            if not candidate.is_base
        },
    )
    return VariantSummary(
        variant=candidate.name,
        what=variant.record.what,
        prompt_style=variant.record.prompt_style,
        judged_stage=inputs.judged_stage,
        metrics=dict(ours),
        differences=dict(changes.metric_changes),
        probes={name: mean_score(scores, "") for name, scores in variant.probe_scores.items()},
        probe_differences=dict(changes.probe_changes),
        stages=[
            stage_summary(candidate, stage, baselines[name])
            for name, stage in variant.stages.items()
        ],
        judged={
            spec.key: _judged(candidate, spec, changes, baseline)
            for spec in candidate.specs
            if spec.kind != "slo"
        },
        settings=variant.record.settings,
    )


def _judged(
    candidate: Candidate, spec: ObjectiveSpec, changes: _Changes, baseline: Baseline | None
) -> Judged:
    """An objective of quality or budget, with the data that would settle it.

    A probe is asked outside the load, everything else under it.
    """
    stage, tails = candidate.judged_stage, candidate.tails
    if spec.kind == "quality":
        judged = _quality(candidate, spec, changes, baseline)
    else:
        judged = _budget(candidate, spec, changes.metrics, baseline)
    if stage is not None and not spec.key.startswith(_PROBE):
        judged = unless_it_grew(spec, judged, stage)
    scores = _scores_for(spec, candidate.variant, candidate.base)
    more = to_settle(spec, judged, tails, stage, scores, _unit(spec, candidate.inputs))
    return replace(judged, more=more)


def _quality(
    candidate: Candidate, spec: ObjectiveSpec, changes: _Changes, baseline: Baseline | None
) -> Judged:
    variant, base, tails = candidate.variant, candidate.base, candidate.tails
    if spec.key == "quality":
        return judge_quality(spec, changes.metrics["quality"], variant.scores, tails)
    if spec.key == "quality_change":
        scores = variant.scores, base.scores
        theirs, doubt = (baseline.stage, baseline.invalid) if baseline else (None, None)
        change = changes.metric_changes["quality"].absolute
        return judge_change(spec, change, scores, theirs, tails, doubt)
    name = spec.key.removeprefix(_PROBE)
    if name not in changes.probe_changes:
        reason = f"probe {name} was not measured for both"
        return undecided(absent("not measured"), spec.limit, reason)
    scores = variant.probe_scores[name], base.probe_scores.get(name, {})
    change = changes.probe_changes[name].absolute
    return judge_change(spec, change, scores, base.probes.get(name), tails)


def _budget(
    candidate: Candidate,
    spec: ObjectiveSpec,
    metrics: Mapping[str, Estimate],
    baseline: Baseline | None,
) -> Judged:
    inputs, stage, tails = candidate.inputs, candidate.judged_stage, candidate.tails
    assert inputs.budget is not None
    if stage is not None and spec.key == "cost_per_month":
        return judge_month(spec, metrics["cost_per_month"], stage, inputs.budget, tails)
    if stage is not None and baseline is not None:
        return judge_increase(spec, stage, baseline, inputs.budget.price, tails)
    reason = f"stage {inputs.judged_stage} was not measured"
    return undecided(absent("not measured"), spec.limit, reason)


def _unit(spec: ObjectiveSpec, inputs: RunInputs) -> Unit | None:
    """What a cost spreads over.

    By the hour that is blocks, metered prompts; the month's tokens spread over both.
    """
    if spec.kind != "budget" or inputs.budget is None or not is_metered(inputs.budget.price):
        return "blocks"
    return "prompts" if spec.key == "cost_increase" else None


def _scores_for(
    spec: ObjectiveSpec, variant: MeasuredVariant, base: MeasuredVariant
) -> list[float]:
    """The scores that an objective of quality is on, or their differences to the baseline's."""
    if spec.kind != "quality":
        return []
    if spec.key == "quality":
        return list(variant.scores.values())
    if spec.key == "quality_change":
        ours, theirs = variant.scores, base.scores
    else:
        name = spec.key.removeprefix(_PROBE)
        ours, theirs = variant.probe_scores.get(name, {}), base.probe_scores.get(name, {})
    return [ours[prompt] - theirs[prompt] for prompt in sorted(ours.keys() & theirs.keys())]
