"""The numbers of one variant under one load."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from msgspec.structs import replace

from results.analysis.candidate import Candidate
from results.comparison.decomposition import decompose
from results.comparison.variants import NOISE_METRICS, differences
from results.comparison.waterfall import waterfall_difference
from results.decision.judging import Baseline, judge_slo
from results.decision.settling import to_settle
from results.measures.stage_metrics import stage_metrics
from results.measures.stage_notes import doubts, examples, failures
from results.measures.steady_state import StageData
from results.measures.validity import validity_of
from results.measures.waterfall import waterfall
from results.metrics import METRICS
from results.summary import Difference, Estimate, Judged, StageSummary


def stage_summary(
    candidate: Candidate, stage: StageData, baseline: Baseline | None
) -> StageSummary:
    """`baseline`: the baseline under the same load."""
    variant, limits = candidate.variant, candidate.limits(stage.stage)
    metrics, pairing = stage_metrics(stage, limits), baseline.pairing if baseline else None
    requests = [block.requests for block in stage.blocks]
    failed = failures(requests)
    changes = {}
    compared = candidate.compared.stages[stage.stage]
    if pairing is not None:
        ours = metrics if compared is stage else stage_metrics(compared, limits)
        base_metrics = stage_metrics(candidate.base.stages[stage.stage], limits)
        changes = differences(pairing, ours, base_metrics, limits)
    latency = changes.get("latency_mean")
    return StageSummary(
        stage=stage.stage,
        offered_rate=stage.offered_rate,
        concurrency=stage.concurrency,
        blocks=len(stage.blocks),
        window_s=stage.window_s,
        planned=stage.n,
        sent=sum(int((~np.isnan(r.sent)).sum()) for r in requests),
        dropped=failed.get("dropped", 0),
        succeeded=stage.succeeded,
        failures=failed,
        metrics={
            **metrics,
            **variant.tokens[stage.stage].cache,
            **variant.sampled.get(stage.stage, {}),
        },
        differences=changes,
        decomposition=decompose(pairing) if pairing else None,
        notes=[
            *doubts(stage),
            *variant.tokens[stage.stage].notes,
            *(pairing.notes if pairing else ()),
            *_disagreements(changes),
        ],
        judged=_judged(candidate, stage, metrics, baseline),
        validity=validity_of(
            stage,
            limits,
            candidate.ceiling,
            variant.record.dtype_doubt,
            candidate.inputs.failed.get(candidate.name),
        ),
        alternated=pairing.alternated if pairing else None,
        arrivals=stage.arrivals,
        held=stage.held.value,
        held_reason=stage.held.reason,
        sessions=stage.sessions,
        replicas=stage.replicas,
        router=stage.router,
        accelerators=stage.blocks[0].accelerators if stage.blocks else None,
        examples=examples(stage),
        waterfall=waterfall(stage),
        waterfall_difference=waterfall_difference(
            pairing,
            (compared, candidate.base.stages[stage.stage]),
            latency.absolute,
            (candidate.name, candidate.base.record.name),
        )
        if pairing and latency
        else None,
    )


def _judged(
    candidate: Candidate,
    stage: StageData,
    metrics: Mapping[str, Estimate],
    baseline: Baseline | None,
) -> dict[str, Judged]:
    """The SLOs at this load, by metric, with the data that would settle each."""
    limits, tails = candidate.limits(stage.stage), candidate.tails
    judged = {}
    for spec in candidate.specs:
        if spec.kind == "slo":
            slo = judge_slo(spec, stage, metrics[spec.metric], baseline, tails, limits)
            judged[spec.key] = replace(slo, more=to_settle(spec, slo, tails, stage))
    return judged


def _disagreements(changes: Mapping[str, Difference]) -> list[str]:
    """A note on the differences that only one of t and the bootstrap of the blocks shows."""

    def shown(low: float | None, high: float | None) -> bool:
        return low is not None and high is not None and not low <= 0 <= high

    labels = [
        METRICS[key].label
        for key in NOISE_METRICS
        if (change := changes.get(key)) is not None
        and (bootstrap := change.bootstrap) is not None
        and shown(change.absolute.low, change.absolute.high) != shown(bootstrap.low, bootstrap.high)
    ]
    if not labels:
        return []
    return [
        "t and the bootstrap of the blocks do not agree on whether it differs in "
        f"{', '.join(labels)}: take it as open"
    ]
