"""The value of each objective and the bounds that it is decided on.

Value and bounds are always of one population: the same requests, or the same prompts, on either
side of a limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf, isfinite
from types import MappingProxyType

import numpy as np

from results.comparison.pairing import Pairing
from results.config import BudgetConfig, Price
from results.decision.judged_rates import only_offered, paired_rate, rate_bounds, rate_doubt
from results.decision.judged_values import judged_values, paired_values, too_many_failed
from results.decision.objectives import ObjectiveSpec, Tails, fixed_limit, outcome_of, undecided
from results.measures.cost import (
    FEWEST_PROMPTS,
    CostRatio,
    cost_bounds,
    cost_ratio,
    is_metered,
    no_cost_reason,
)
from results.measures.shares import ANSWER_SHARES, counts_of
from results.measures.steady_state import StageData
from results.measures.values import PER_REQUEST, Limits
from results.metrics import RECORDS
from results.statistics.block_means import block_mean_bounds
from results.statistics.block_percentiles import percentile_bounds
from results.statistics.block_ratios import block_ratio_bounds
from results.statistics.block_shares import block_share_bounds
from results.statistics.bounded_means import paired_score_bounds, score_bounds
from results.statistics.intervals import TAIL, Bounds, absent, estimate
from results.summary import Estimate, Judged, Validity

RELATIVE = "the limit is relative to the baseline"
NO_BASELINE = f"{RELATIVE}, which was not measured at this load"
TWO_PAIRS = "a limit relative to the baseline needs two pairs of blocks"
ONE_BLOCK = "one block tells nothing of the spread between blocks; run at least two"


@dataclass(frozen=True)
class Baseline:
    """The baseline under the same load, for limits that are relative to it."""

    stage: StageData
    pairing: Pairing
    validity: Validity

    @property
    def invalid(self) -> str | None:
        """Why nothing at all can be held against it, None where something can."""
        valid = self.validity.level != "INVALID"
        return (
            None
            if valid
            else "the limit is relative to the baseline, whose measurement is not valid"
        )

    @property
    def doubt(self) -> str | None:
        """Why no time or cost can be held against it, None where one can."""
        if self.invalid or not _not_held(self.stage):
            return self.invalid
        did = "did not hold" if self.stage.held.value is False else "is not known to have held"
        return f"the limit is relative to the baseline, which {did} this load"


def judge_slo(
    spec: ObjectiveSpec,
    stage: StageData,
    value: Estimate,
    base: Baseline | None,
    tails: Tails,
    limits: Limits = MappingProxyType({}),
) -> Judged:
    """An SLO at one stage.

    `shown`: the metric there. `base`: the baseline under the same load, for a relative limit.
    `limits`: what goodput counts by.
    """
    if RECORDS[spec.metric].kind == "rate":
        judged = only_offered(spec, _rate(spec, stage, value, base, tails, limits), stage)
    elif spec.relative:
        judged = _relative_slo(spec, stage, base, tails)
    else:
        judged = _slo(spec, stage, value, tails)
    return unless_it_grew(spec, judged, stage)


def _rate(
    spec: ObjectiveSpec,
    stage: StageData,
    shown: Estimate,
    base: Baseline | None,
    tails: Tails,
    limits: Limits,
) -> Judged:
    """A floor under a rate; a relative one over the paired blocks."""
    if doubt := rate_doubt(spec, stage, shown):
        return undecided(shown, fixed_limit(spec), doubt)
    if not spec.relative:
        if len(stage.blocks) < 2:
            return undecided(shown, spec.limit, ONE_BLOCK)
        return _judged(spec, shown, spec.limit, rate_bounds(spec.metric, stage, limits, tails))
    if base is None:
        return undecided(shown, fixed_limit(spec), NO_BASELINE)
    blocks = [a for a, _ in base.pairing.blocks], [b for _, b in base.pairing.blocks]
    value, base_rate, bounds = paired_rate(spec.metric, blocks, limits, tails)
    if value.value is None:
        return undecided(value, fixed_limit(spec), value.reason or "not measured")
    if doubt := base.doubt or (None if base_rate else f"{RELATIVE}: its value is zero"):
        return undecided(value, fixed_limit(spec), doubt)
    limit = spec.limit * base_rate
    if len(base.pairing.blocks) < 2:
        return undecided(value, limit, TWO_PAIRS)
    return _judged(spec, value, limit, bounds)


def unless_it_grew(spec: ObjectiveSpec, judged: Judged, stage: StageData) -> Judged:
    """Leaves an objective that holds undecided at a stage whose queue grew, or may have."""
    if (why := _not_held(stage)) and outcome_of(spec, judged) != "fails":
        limit = inf if judged.limit is None else judged.limit
        return undecided(judged.value, limit, judged.reason or why)
    return judged


def _not_held(stage: StageData) -> str | None:
    """Why an offered load is not shown to have been held, None where it is.

    What speaks against it is a reason of the stage's validity, which tells it once for all
    objectives. Only of blocks that are not of one load, and of none, validity says something else.
    """
    if stage.held.value is False:
        return "the server did not keep up with the offered load"
    if stage.held.value is None and stage.offered_rate is not None:
        why = f": {stage.held.reason}" if stage.differs or not stage.n else ""
        return f"it is not known whether the server kept up with the offered load{why}"
    return None


def _slo(spec: ObjectiveSpec, stage: StageData, value: Estimate, tails: Tails) -> Judged:
    low, high = tails.optimistic, tails.pessimistic
    if RECORDS[spec.metric].kind == "share":
        if value.value is None:
            return undecided(value, spec.limit, value.reason or "not measured")
        failed = stage.n - stage.succeeded
        if spec.metric in ANSWER_SHARES and failed > spec.limit * stage.n:
            reason = (
                f"{failed:,} of {stage.n:,} requests failed, more than the limit allows of the "
                "answers"
            )
            return undecided(value, spec.limit, reason)
        return _judged(
            spec, value, spec.limit, block_share_bounds(*_events(spec.metric, stage), low, high)
        )
    of = judged_values(spec.metric, stage)
    if of.value.value is None:
        return undecided(of.value, spec.limit, of.value.reason or "not measured")
    name, _, statistic = spec.metric.rpartition("_")
    if len(of.blocks) < 2 and (statistic == "mean" or name not in PER_REQUEST):
        return undecided(of.value, spec.limit, _one_block(stage))
    if statistic == "mean":
        bounds = block_mean_bounds(of.blocks, low, high, independent=name in PER_REQUEST)
    else:
        bounds = percentile_bounds(of.blocks, float(statistic[1:]), low, high)
    return _judged(spec, of.value, spec.limit, bounds)


def _one_block(stage: StageData) -> str:
    if len(stage.blocks) < 2:
        return ONE_BLOCK
    return (
        f"only one of {len(stage.blocks)} blocks has such a value, which tells nothing of the "
        "spread between blocks"
    )


def _events(metric: str, stage: StageData) -> tuple[list[int], list[int]]:
    """How many requests of each block count against a share, and of how many."""
    blocks = [
        (count, n)
        for block in stage.blocks
        for count, n in [counts_of(metric, block.requests)]
        if n
    ]
    return [count for count, _ in blocks], [n for _, n in blocks]


def _relative_slo(
    spec: ObjectiveSpec, stage: StageData, base: Baseline | None, tails: Tails
) -> Judged:
    if base is None:
        return undecided(absent(NO_BASELINE), fixed_limit(spec), NO_BASELINE)
    sides = tuple(
        replace(side, blocks=[pair[i] for pair in base.pairing.blocks])
        for i, side in enumerate((stage, base.stage))
    )
    if RECORDS[spec.metric].kind == "share":
        return _relative_share(spec, sides[0], sides[1], base.doubt, tails)
    ours, theirs = paired_values(spec.metric, (sides[0], sides[1]))
    value, base_value = ours.value, theirs.value.value
    if value.value is None:
        return undecided(value, fixed_limit(spec), value.reason or "not measured")
    if base.doubt or not base_value:
        reason = base.doubt or f"{RELATIVE}: {theirs.value.reason or 'its value is zero'}"
        return undecided(value, fixed_limit(spec), reason)
    limit = spec.limit * base_value
    if len(ours.blocks) < 2:
        return undecided(value, limit, TWO_PAIRS)
    statistic = spec.metric.rpartition("_")[2]
    ratio = block_ratio_bounds(
        (ours.blocks, theirs.blocks), statistic, tails.optimistic, tails.pessimistic
    )
    return _judged(spec, value, limit, Bounds(ratio.low * base_value, ratio.high * base_value))


def _relative_share(
    spec: ObjectiveSpec, stage: StageData, base: StageData, doubt: str | None, tails: Tails
) -> Judged:
    """Each side has half of the error: the worst end of one over the best of the other."""
    (counts, sizes), (base_counts, base_sizes) = (
        _events(spec.metric, side) for side in (stage, base)
    )
    if not sizes or not base_sizes:
        return undecided(
            absent("not measured"),
            fixed_limit(spec),
            "no request of a pair of blocks was measured for both",
        )
    share, base_share = sum(counts) / sum(sizes), sum(base_counts) / sum(base_sizes)
    value = estimate(share, block_share_bounds(counts, sizes, TAIL, TAIL), sum(sizes))
    if doubt or base_share == 0:
        reason = doubt or (
            "the limit is relative to the baseline, whose value is zero; write a share such as 1%"
        )
        return undecided(value, fixed_limit(spec), reason)
    low, high = tails.optimistic / 2, tails.pessimistic / 2
    ours, theirs = (
        block_share_bounds(counts, sizes, low, high),
        block_share_bounds(base_counts, base_sizes, high, low),
    )
    worst = base_share / theirs.low if theirs.low > 0 else inf
    return _judged(
        spec,
        value,
        spec.limit * base_share,
        Bounds(ours.low * base_share / theirs.high, ours.high * worst),
    )


def judge_quality(
    spec: ObjectiveSpec, value: Estimate, scores: Mapping[str, float], tails: Tails
) -> Judged:
    """A floor under the mean score of the prompts."""
    if value.value is None:
        return undecided(value, spec.limit, value.reason or "not measured")
    bounds = score_bounds(np.array(list(scores.values())), tails.pessimistic, tails.optimistic)
    return _judged(spec, value, spec.limit, bounds)


def judge_change(
    spec: ObjectiveSpec,
    change: Estimate,
    scores: tuple[Mapping[str, float], Mapping[str, float]],
    base: StageData | None,
    tails: Tails,
    doubt: str | None = None,
) -> Judged:
    """A floor under the change of the score against the baseline, prompt by prompt.

    `scores`: the variant's and the baseline's, by prompt. `base`: the baseline's requests that were
    scored; one that failed scores 0, which makes any variant look good. `doubt`: why nothing can be
    held against the baseline.
    """
    if change.value is None:
        return undecided(change, spec.limit, change.reason or "not measured")
    if doubt := doubt or (_failed(base) if base else None):
        return undecided(change, spec.limit, doubt)
    ours, theirs = scores
    differences = np.array(
        [ours[prompt] - theirs[prompt] for prompt in sorted(ours.keys() & theirs.keys())]
    )
    return _judged(
        spec,
        change,
        spec.limit,
        paired_score_bounds(differences, tails.pessimistic, tails.optimistic),
    )


def _failed(base: StageData) -> str | None:
    failed = too_many_failed(base)
    return f"the limit is relative to the baseline: {failed}" if failed else None


def judge_month(
    spec: ObjectiveSpec, value: Estimate, stage: StageData, budget: BudgetConfig, tails: Tails
) -> Judged:
    """The cost of a month's requests."""
    if value.value is None or budget.requests_per_month is None:
        return undecided(value, spec.limit, value.reason or "not measured")
    if len(stage.blocks) < 2:
        return undecided(value, spec.limit, ONE_BLOCK)
    each = cost_bounds(stage, budget.price, tails.optimistic, tails.pessimistic)
    months = budget.requests_per_month
    return _judged(spec, value, spec.limit, Bounds(each.low * months, each.high * months))


def judge_increase(
    spec: ObjectiveSpec, stage: StageData, base: Baseline, price: Price, tails: Tails
) -> Judged:
    """The cost per request over the baseline's, less one: metered by prompt, else by blocks."""
    if reason := no_cost_reason(stage, price) or no_cost_reason(base.stage, price):
        return undecided(absent(reason), spec.limit, reason)
    ratio = cost_ratio(base.pairing.blocks, price)
    if ratio is None:
        reason = "the paired blocks have no cost on both sides, or the baseline costs nothing"
        return undecided(absent(reason), spec.limit, reason)
    value = estimate(ratio.value - 1, _less_one(ratio.bounds(TAIL, TAIL)), ratio.n, scale=1.0)
    if doubt := base.doubt or _failed(base.stage) or _too_few(ratio):
        return undecided(value, spec.limit, doubt)
    return _judged(
        spec, value, spec.limit, _less_one(ratio.bounds(tails.optimistic, tails.pessimistic))
    )


def _too_few(ratio: CostRatio) -> str | None:
    if not is_metered(ratio.price):
        return (
            None
            if ratio.n > 1
            else "costs by the hour are compared block by block: that needs two pairs of blocks"
        )
    if ratio.n >= FEWEST_PROMPTS:
        return None
    return (
        f"metered costs are compared prompt by prompt: that needs at least {FEWEST_PROMPTS} "
        f"prompts, there are {ratio.n}"
    )


def _less_one(bounds: Bounds) -> Bounds:
    return Bounds(bounds.low - 1, bounds.high - 1)


def _judged(spec: ObjectiveSpec, value: Estimate, limit: float, bounds: Bounds) -> Judged:
    """Raises ValueError where the value lies outside the bounds."""
    assert value.value is not None
    held_ = bounds.around(value.value, scale=abs(limit))
    low, high = (x if isfinite(x) else None for x in (held_.low, held_.high))
    pessimistic, optimistic = (high, low) if spec.better == "lower" else (low, high)
    reason = "the data bound it on neither side" if low is None and high is None else None
    return Judged(
        value=value, limit=limit, pessimistic=pessimistic, optimistic=optimistic, reason=reason
    )
