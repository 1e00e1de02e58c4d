"""From a run directory to `Summary`: every variant, every stage, every difference to the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from msgspec.structs import replace

from foundation.errors import BadInput
from foundation.run.ceiling import Ceiling
from foundation.run.journal import Prompts, read_prompts
from foundation.section import nearest
from results.comparison.break_even import break_evens
from results.comparison.resolution import resolutions
from results.comparison.run_notes import noise_notes, run_notes, turns_notes
from results.comparison.runs.compare import StoredRun
from results.comparison.runs.settings import Settings
from results.comparison.variants import (
    NOISE_METRICS,
    Pairing,
    cost_difference,
    decompose,
    differences,
    exact_difference,
    no_difference,
    noise,
    pair,
    paired_scores,
    plain_difference,
    times,
)
from results.decision.judging import (
    Baseline,
    judge_change,
    judge_increase,
    judge_month,
    judge_quality,
    judge_slo,
    unless_it_grew,
)
from results.decision.objectives import Asked, Tails, asked_of, undecided
from results.decision.settling import Unit, to_settle
from results.inputs import RunInputs
from results.measures.consistency import prompt_consistency
from results.measures.cost import COSTS, cost_metrics, is_metered
from results.measures.measured import Measured, Scores, read_measured
from results.measures.quality import NEEDS_NO_REFERENCE, statement
from results.measures.request_limits import request_limits
from results.measures.stage_metrics import stage_metrics
from results.measures.stage_notes import doubts, examples, failures
from results.measures.steady_state import StageData
from results.measures.validity import (
    failed_validity,
    probe_validity,
    read_ceiling,
    unread_validity,
    validity_of,
    worst,
)
from results.metrics import METRICS
from results.statistics.bounded_means import score_bounds
from results.statistics.intervals import TAIL, absent, estimate, holm
from results.summary import (
    SCHEMA_VERSION,
    Difference,
    Estimate,
    Judged,
    Metric,
    StageSummary,
    Summary,
    VariantSummary,
)


def analyse(inputs: RunInputs) -> Summary:
    """Read the journals of a run and make every number of it. Raises BadInput for a run without a readable journal."""
    prompts = read_prompts(inputs.run)
    return summarise(inputs, read_measured(inputs, prompts), prompts)


def read_run(
    inputs: RunInputs,
    environment: Mapping[str, Any] = MappingProxyType({}),
    settings: Settings = MappingProxyType({}),
) -> StoredRun:
    """A run as `compare_runs` takes it. Raises BadInput for a run without a readable journal."""
    prompts = read_prompts(inputs.run)
    measured = read_measured(inputs, prompts)
    return StoredRun(
        inputs, prompts, measured, summarise(inputs, measured, prompts), environment, settings
    )


def summarise(inputs: RunInputs, measured: Sequence[Measured], prompts: Prompts) -> Summary:
    """Every number of a run whose journals are read. Raises BadInput for a baseline that is no variant of it."""
    names = [record.name for record in inputs.variants]
    if inputs.baseline not in names:
        raise BadInput(
            f"baseline: {inputs.baseline!r} is no variant of this run{nearest(inputs.baseline, names)}"
        )
    base = next(variant for variant in measured if variant.record.name == inputs.baseline)
    calibrated = read_ceiling(inputs.run)
    ceiling = calibrated if isinstance(calibrated, Ceiling) else None
    once = {variant.record.name: _once(inputs, variant) for variant in measured}
    variants = _holm([_variant(inputs, variant, base, once, ceiling) for variant in measured])
    judged = base.stages.get(inputs.judged_stage)
    floor = noise(judged) if judged else {}
    shown = resolutions(inputs, measured)
    return Summary(
        schema_version=SCHEMA_VERSION,
        name=inputs.name,
        baseline=inputs.baseline,
        metrics=METRICS | {"quality": _scored_by(inputs)},
        variants=variants,
        notes=[
            *(f"{name}: {why}" for name, why in inputs.failed.items()),
            *inputs.notes,
            *run_notes(inputs, measured, prompts, calibrated),
            *(
                noise_notes(inputs.baseline, floor)
                if judged and judged.held.value is not False
                else ()
            ),
            *turns_notes(inputs, variants),
            *([found.sentence for found in shown.values()] if inputs.resolution else ()),
        ],
        noise=floor,
        break_even=break_evens(inputs, variants),
        resolution=shown,
        failed=dict(inputs.failed),
        validity=worst(
            [
                (f"{v.variant}, {stage.stage}", stage.validity)
                for v in variants
                for stage in v.stages
            ]
            + [
                (f"{m.record.name}, {stage.stage}", probe_validity(stage))
                for m in measured
                for stage in m.probes.values()
            ]
            + [(m.record.name, unread_validity(m.unread)) for m in measured if m.unread]
            + [
                (m.record.name, failed_validity(why))
                for m in measured
                if not m.stages and (why := inputs.failed.get(m.record.name))
            ]
        ),
    )


def _holm(variants: list[VariantSummary]) -> list[VariantSummary]:
    """Say of every difference whether it is shown, for all variants together: several chances to be lucky count as several."""

    def family(differences: Sequence[Mapping[str, Difference]]) -> list[dict[str, Difference]]:
        keys = {key for changes in differences for key in changes}
        shown = {
            key: holm(
                {
                    str(i): p
                    for i, c in enumerate(differences)
                    if key in c and (p := c[key].p) is not None
                }
            )
            for key in keys
        }
        return [
            {
                key: replace(change, differs=shown[key].get(str(i)))
                for key, change in changes.items()
            }
            for i, changes in enumerate(differences)
        ]

    of_variants = family([variant.differences for variant in variants])
    of_probes = family([variant.probe_differences for variant in variants])
    names = {stage.stage for variant in variants for stage in variant.stages}
    stages = [{stage.stage: stage for stage in variant.stages} for variant in variants]
    of_stages = {
        name: family([s[name].differences if name in s else {} for s in stages]) for name in names
    }
    return [
        replace(
            variant,
            differences=of_variants[i],
            probe_differences=of_probes[i],
            stages=[
                replace(stage, differences=of_stages[stage.stage][i]) for stage in variant.stages
            ],
        )
        for i, variant in enumerate(variants)
    ]


def _variant(
    inputs: RunInputs,
    variant: Measured,
    base: Measured,
    once: Mapping[str, Mapping[str, Estimate]],
    ceiling: Ceiling | None,
) -> VariantSummary:
    is_base = variant is base
    asked = asked_of(inputs, variant.record.name)
    tails = Tails.of(len(asked), inputs.looks)
    baselines = {
        name: _baseline(inputs, variant, base, name, ceiling)
        for name in variant.stages
        if name in base.stages and not is_base
    }
    stages = [
        _stage_summary(
            inputs, variant, base, stage, baselines.get(stage.stage), asked, tails, ceiling
        )
        for stage in variant.stages.values()
    ]
    metrics, base_metrics = dict(once[variant.record.name]), once[base.record.name]
    baseline = baselines.get(inputs.judged_stage)
    pairing = baseline.pairing if baseline else None
    changes = {} if is_base else _changes(inputs, variant, base, metrics, base_metrics, pairing)
    probe_changes = {
        name: paired_scores(scores, base.probe_scores.get(name, {}))
        for name, scores in variant.probe_scores.items()
        if not is_base
    }
    stage = variant.stages.get(inputs.judged_stage)
    judged = {
        a.key: _with_more(
            a,
            _at_the_load(
                a,
                _judge(inputs, a, tails, variant, base, metrics, changes, probe_changes, baseline),
                stage,
            ),
            tails,
            stage,
            _scores_for(a, variant, base),
            _unit(a, inputs),
        )
        for a in asked
        if a.kind != "slo"
    }
    return VariantSummary(
        variant=variant.record.name,
        what=variant.record.what,
        prompt_style=variant.record.prompt_style,
        judged_stage=inputs.judged_stage,
        metrics=metrics,
        differences=changes,
        probes={name: _mean_score(scores, "") for name, scores in variant.probe_scores.items()},
        probe_differences=probe_changes,
        stages=stages,
        judged=judged,
    )


def _at_the_load(asked: Asked, judged: Judged, stage: StageData | None) -> Judged:
    """A probe is asked outside the load, everything else under it."""
    return (
        judged
        if stage is None or asked.key.startswith("probe:")
        else unless_it_grew(asked, judged, stage)
    )


def _with_more(
    asked: Asked,
    judged: Judged,
    tails: Tails,
    stage: StageData | None,
    scores: Sequence[float] = (),
    unit: Unit | None = "blocks",
) -> Judged:
    return replace(judged, more=to_settle(asked, judged, tails, stage, scores, unit))


def _unit(asked: Asked, inputs: RunInputs) -> Unit | None:
    """What a cost spreads over: by the hour blocks, metered prompts; the month's tokens either of them."""
    if asked.kind != "budget" or inputs.budget is None or not is_metered(inputs.budget.price):
        return "blocks"
    return "prompts" if asked.key == "cost_increase" else None


def _scores_for(asked: Asked, variant: Measured, base: Measured) -> list[float]:
    """One a prompt: the scores that an objective of quality is on, or their differences to the baseline's."""
    if asked.kind != "quality":
        return []
    if asked.key == "quality":
        return list(variant.scores.values())
    name = asked.key.removeprefix("probe:")
    ours, theirs = (
        (variant.scores, base.scores)
        if asked.key == "quality_change"
        else (variant.probe_scores.get(name, {}), base.probe_scores.get(name, {}))
    )
    return [ours[prompt] - theirs[prompt] for prompt in sorted(ours.keys() & theirs.keys())]


def _baseline(
    inputs: RunInputs, variant: Measured, base: Measured, stage: str, ceiling: Ceiling | None
) -> Baseline:
    theirs = base.stages[stage]
    return Baseline(
        stage=theirs,
        pairing=pair(variant.stages[stage], theirs, (variant.record.name, base.record.name)),
        validity=validity_of(
            theirs,
            request_limits(inputs.slo, base.metrics[stage]),
            ceiling,
            base.record.dtype_doubt,
            inputs.failed.get(base.record.name),
        ),
    )


def _stage_summary(
    inputs: RunInputs,
    variant: Measured,
    base: Measured,
    stage: StageData,
    baseline: Baseline | None,
    asked: list[Asked],
    tails: Tails,
    ceiling: Ceiling | None,
) -> StageSummary:
    base_metrics = base.metrics.get(stage.stage, {})
    limits = request_limits(inputs.slo, base_metrics)
    metrics, pairing = stage_metrics(stage, limits), baseline.pairing if baseline else None
    requests = [block.requests for block in stage.blocks]
    sent = sum(int((~np.isnan(r.sent)).sum()) for r in requests)
    failed = failures(requests)
    compared = {}
    if pairing is not None:
        compared = differences(
            pairing, metrics, stage_metrics(base.stages[stage.stage], limits), limits
        )
    return StageSummary(
        stage=stage.stage,
        offered_rate=stage.offered_rate,
        concurrency=stage.concurrency,
        blocks=len(stage.blocks),
        window_s=stage.window_s,
        planned=stage.n,
        sent=sent,
        dropped=failed.get("dropped", 0),
        succeeded=stage.succeeded,
        failures=failed,
        metrics={**metrics, **variant.tokens[stage.stage].cache},
        differences=compared,
        decomposition=decompose(pairing) if pairing else None,
        notes=[
            *doubts(stage),
            *variant.tokens[stage.stage].notes,
            *(pairing.notes if pairing else ()),
            *_disagreements(compared),
        ],
        judged={
            a.key: _with_more(
                a, judge_slo(a, stage, metrics[a.metric], baseline, tails, limits), tails, stage
            )
            for a in asked
            if a.kind == "slo"
        },
        validity=validity_of(
            stage,
            limits,
            ceiling,
            variant.record.dtype_doubt,
            inputs.failed.get(variant.record.name),
        ),
        alternated=pairing.alternated if pairing else None,
        arrivals=stage.arrivals,
        held=stage.held.value,
        held_reason=stage.held.reason,
        sessions=stage.sessions,
        examples=examples(stage),
    )


def _disagreements(compared: Mapping[str, Difference]) -> list[str]:
    """Differences that t takes for shown and the bootstrap of the blocks does not, or the other way round."""

    def shown(low: float | None, high: float | None) -> bool:
        return low is not None and high is not None and not low <= 0 <= high

    said = [
        METRICS[key].label
        for key in NOISE_METRICS
        if (change := compared.get(key)) is not None
        and (bootstrap := change.bootstrap) is not None
        and shown(change.absolute.low, change.absolute.high) != shown(bootstrap.low, bootstrap.high)
    ]
    return (
        [
            f"t and the bootstrap of the blocks do not agree on whether it differs in {', '.join(said)}: take it as open"
        ]
        if said
        else []
    )


def _once(inputs: RunInputs, variant: Measured) -> dict[str, Estimate]:
    """What a variant has once: quality, consistency and cost at the judged stage, and its size."""
    stage = variant.stages.get(inputs.judged_stage)
    size = variant.record.size_bytes
    found = {
        "size_bytes": absent("not known for this variant")
        if size is None
        else Estimate(value=size, low=size, high=size, n=1)
    }
    if stage is None:
        return found | dict.fromkeys(
            ("quality", "consistency", *COSTS),
            absent(f"stage {inputs.judged_stage} was not measured"),
        )
    what = (
        "responses have no reference"
        if inputs.quality.scorer not in NEEDS_NO_REFERENCE
        else "prompts are not in prompts.jsonl"
    )
    quality = _mean_score(
        variant.scores, next(iter(variant.score_notes), f"nothing to score: the {what}")
    )
    repeats = np.array(
        list(prompt_consistency([block.requests for block in stage.blocks]).values())
    )
    consistency = absent("no prompt was answered more than once")
    if len(repeats):
        consistency = estimate(
            float(np.mean(repeats)), score_bounds(repeats, TAIL, TAIL), len(repeats)
        )
    return (
        {"quality": quality, "consistency": consistency}
        | found
        | cost_metrics(stage, quality, inputs.budget)
    )


def _scored_by(inputs: RunInputs) -> Metric:
    """What quality means in this run: its definition with the scorer's normalisation."""
    metric = METRICS["quality"]
    return replace(metric, definition=f"{metric.definition}. {statement(inputs.quality)}")


def _mean_score(scores: Scores, reason: str) -> Estimate:
    if not scores:
        return absent(reason)
    values = np.array(list(scores.values()))
    return estimate(float(np.mean(values)), score_bounds(values, TAIL, TAIL), len(values))


def _changes(
    inputs: RunInputs,
    variant: Measured,
    base: Measured,
    metrics: Mapping[str, Estimate],
    base_metrics: Mapping[str, Estimate],
    pairing: Pairing | None,
) -> dict[str, Difference]:
    found = {}
    for key, ours in metrics.items():
        value, base_value = ours.value, base_metrics[key].value
        if value is None or base_value is None:
            found[key] = no_difference(ours.reason or base_metrics[key].reason or "not measured")
        elif key == "quality":
            found[key] = paired_scores(variant.scores, base.scores)
        elif key == "size_bytes":
            found[key] = exact_difference(value, base_value)
        elif key in _COST_SCALES and inputs.budget and pairing:
            per_request = base_metrics["cost_per_request"].value
            assert per_request is not None
            scale = _COST_SCALES[key] or inputs.budget.requests_per_month or 1
            found[key] = times(cost_difference(pairing, inputs.budget.price, per_request), scale)
        else:
            found[key] = plain_difference(
                value, base_value, ours.n, "no interval: this is not compared in pairs"
            )
    return found


_COST_SCALES = {
    "cost_per_request": 1,
    "cost_per_1000": 1000,
    "cost_per_month": 0,
}  # 0: the month's requests


def _judge(
    inputs: RunInputs,
    asked: Asked,
    tails: Tails,
    variant: Measured,
    base: Measured,
    metrics: Mapping[str, Estimate],
    changes: Mapping[str, Difference],
    probe_changes: Mapping[str, Difference],
    baseline: Baseline | None,
) -> Judged:
    """An objective of quality or budget."""
    stage = variant.stages.get(inputs.judged_stage)
    unmeasured = undecided(
        absent("not measured"), asked.limit, f"stage {inputs.judged_stage} was not measured"
    )
    if asked.key == "quality":
        return judge_quality(asked, metrics["quality"], variant.scores, tails)
    if asked.key == "quality_change":
        scores = variant.scores, base.scores
        theirs, doubt = (baseline.stage, baseline.invalid) if baseline else (None, None)
        return judge_change(asked, changes["quality"].absolute, scores, theirs, tails, doubt)
    if asked.key.startswith("probe:"):
        name = asked.key.removeprefix("probe:")
        if name not in probe_changes:
            return undecided(
                absent("not measured"), asked.limit, f"probe {name} was not measured for both"
            )
        scores = variant.probe_scores[name], base.probe_scores.get(name, {})
        return judge_change(
            asked, probe_changes[name].absolute, scores, base.probes.get(name), tails
        )
    assert inputs.budget is not None
    if asked.key == "cost_per_month":
        return (
            judge_month(asked, metrics["cost_per_month"], stage, inputs.budget, tails)
            if stage
            else unmeasured
        )
    if stage is None or baseline is None:
        return unmeasured
    return judge_increase(asked, stage, baseline, inputs.budget.price, tails)
