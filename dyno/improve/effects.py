"""What remedies did: each variant of a round against the variant that it changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec

from dyno.improve.measured_run import MeasuredRun
from foundation.run.journal import read_prompts
from results.analysis import summarise
from results.decision.improvement.record import ImproveRound, TriedRemedy
from results.measures.measured import read_measured
from results.statistics.intervals import absent
from results.summary import Difference, Estimate, VariantSummary


@dataclass(frozen=True)
class Effect:
    """The factors on the metric that binds, and on the score."""

    metric: Estimate
    score: Estimate


def effects(run: MeasuredRun, round_: ImproveRound) -> Mapping[str, Effect]:
    """The effect of each variant of a round, over the blocks that it and the changed one pair in.

    Intervals are of 95 %.
    """
    prompts = read_prompts(run.directory.path)
    against = replace(run.inputs, baseline=round_.variant)
    summary = summarise(against, read_measured(run.inputs, prompts), prompts)
    variants = {each.variant: each for each in summary.variants}
    return {
        tried.variant: Effect(
            _factor(_difference(variants[tried.variant], round_.metric)),
            _factor(variants[tried.variant].differences.get("quality")),
        )
        for tried in round_.tried
        if tried.variant in variants
    }


def _difference(variant: VariantSummary, metric: str) -> Difference | None:
    """The difference in an objective's metric.

    That of a cost is per request; that of a limit on quality is of the score itself.
    """
    if metric.startswith("cost_"):
        return variant.differences.get("cost_per_request")
    if metric in ("quality", "quality_change"):
        return variant.differences.get("quality")
    if metric.startswith("probe:"):
        return variant.probe_differences.get(metric.removeprefix("probe:"))
    stage = variant.at_judged_stage
    return stage.differences.get(metric) if stage else None


def _factor(difference: Difference | None) -> Estimate:
    """The factor that a relative difference means: one more than it."""
    if difference is None:
        return absent("not measured")
    relative = difference.relative
    value, low, high = (
        None if end is None else 1 + end for end in (relative.value, relative.low, relative.high)
    )
    return Estimate(value=value, low=low, high=high, n=relative.n, reason=relative.reason)


def with_effects(round_: ImproveRound, run: MeasuredRun) -> ImproveRound:
    """The round with what was measured."""
    measured = effects(run, round_) if round_.tried else {}
    verdicts = {each.variant: each for each in run.verdicts.variants}

    def done(tried: TriedRemedy) -> TriedRemedy:
        effect, verdict = measured.get(tried.variant), verdicts[tried.variant]
        factor = effect.metric.value if effect else None
        return msgspec.structs.replace(
            tried,
            measured=effect.metric if effect else absent("not measured"),
            score=effect.score if effect else None,
            error=factor / tried.expected - 1 if factor and tried.expected else None,
            decision=verdict.decision,
            headline=verdict.headline,
        )

    return msgspec.structs.replace(
        round_, tried=[done(each) for each in round_.tried], headline=run.verdicts.headline
    )
