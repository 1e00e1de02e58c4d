"""Differences of a variant to the baseline, by block or by prompt.

Paired blocks share prompts, arrival times and the machine's mood, so what is common to both drops
out of a difference. Times and rates are compared by the blocks' log-ratios (t), tokens, scores and
metered cost prompt by prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import inf, isfinite, isnan, log

import numpy as np

from results.comparison.pairing import Pairing
from results.config import Price
from results.measures.cost import cost_ratio, is_metered, paired_costs, rent
from results.measures.steady_state import StageData
from results.measures.values import Limits, block_statistics, per_request
from results.metrics import RECORDS, keys
from results.statistics.bounded_means import paired_score_bounds
from results.statistics.intervals import (
    TAIL,
    Bounds,
    absent,
    bootstrap_bounds,
    estimate,
    exp_or_inf,
    paired_log_bounds,
    score_p,
    t_bounds,
    t_p,
)
from results.statistics.prompt_totals import (
    PromptTotals,
    prompt_mean,
    prompt_ratio_bounds,
    totals_of_both,
)
from results.summary import Difference, Estimate, Interval

NOISE_METRICS = keys("noise")
_ONE_PAIR = "an interval needs at least two pairs of blocks"


def differences(
    pairing: Pairing, variant: Mapping[str, Estimate], base: Mapping[str, Estimate], limits: Limits
) -> dict[str, Difference]:
    """The difference of every stage metric, variant less baseline.

    Values are of the pooled requests, intervals of the pairs.
    """
    ours = [block_statistics(block, limits) for block, _ in pairing.blocks]
    theirs = [block_statistics(block, limits) for _, block in pairing.blocks]
    changes = {}
    for key, estimate_ in variant.items():
        value, base_value = estimate_.value, base[key].value
        if value is None or base_value is None:
            changes[key] = no_difference(f"{estimate_.reason or base[key].reason}")
        elif (record := RECORDS[key]).kind == "tokens" and record.statistic == "mean":
            ours_, theirs_ = ([pair[side].requests for pair in pairing.blocks] for side in (0, 1))
            tokens = partial(per_request, family=record.family)
            changes[key] = paired_by_prompt(*totals_of_both(ours_, theirs_, tokens))
        else:
            pairs = [
                (s[key], t[key])
                for s, t in zip(ours, theirs, strict=True)
                if key in s and not isnan(s[key] + t[key])
            ]
            changes[key] = _paired_by_block(
                pairs, value, base_value, is_share=record.kind == "share"
            )
    return changes


def noise(base: StageData) -> dict[str, Estimate]:
    """Relative differences of neighbouring blocks of the baseline: an A/A comparison.

    Blocks 1 and 2 are a pair, then 4 and 3, 5 and 6, and so on, so that a drift cancels. Neighbours
    were asked different prompts, so this noise is rather more than that of a paired comparison.
    """
    blocks = [block_statistics(block, {}) for block in base.blocks]
    pairs = [(blocks[i], blocks[i + 1]) for i in range(0, len(blocks) - 1, 2)]
    turned = [pair if i % 2 == 0 else (pair[1], pair[0]) for i, pair in enumerate(pairs)]
    estimates = {}
    for key in NOISE_METRICS:
        both = [(a[key], b[key]) for a, b in turned if a[key] > 0 and b[key] > 0]
        if len(both) < 2:
            estimates[key] = absent("an A/A comparison needs at least four blocks of the baseline")
            continue
        ratio = float(np.exp(np.mean([log(a / b) for a, b in both])))
        bounds = paired_log_bounds([a for a, _ in both], [b for _, b in both], ratio, TAIL, TAIL)
        estimates[key] = estimate(ratio - 1, Bounds(bounds.low - 1, bounds.high - 1), len(both))
    return estimates


def reach_of(estimate_: Estimate) -> float | None:
    """The largest difference that the interval of an A/A comparison allows."""
    return (
        None
        if estimate_.low is None or estimate_.high is None
        else max(abs(estimate_.low), abs(estimate_.high))
    )


def no_difference(reason: str) -> Difference:
    """An absent difference, and why."""
    return Difference(absolute=absent(reason), relative=absent(reason))


def _paired_by_block(
    pairs: Sequence[tuple[float, float]], value: float, base: float, is_share: bool
) -> Difference:
    """A difference from paired blocks: log-ratios of positive numbers, differences of shares."""
    n = len(pairs)
    ours, theirs = [p[0] for p in pairs], [p[1] for p in pairs]
    if is_share:
        changes = np.subtract(ours, theirs)
        bounds = t_bounds(value - base, changes, TAIL, TAIL) if n > 1 else _UNBOUNDED
        return _difference(
            (value, base),
            bounds,
            None,
            n,
            t_p(changes) if n > 1 else None,
            bootstrap_bounds(changes, TAIL, TAIL),
        )
    ratio = (
        paired_log_bounds(ours, theirs, value / base, TAIL, TAIL)
        if n > 1 and base > 0
        else _UNBOUNDED
    )
    if not isfinite(ratio.high):
        return _difference((value, base), _UNBOUNDED, ratio, n)
    logs = np.log(ours) - np.log(theirs)
    resampled = bootstrap_bounds(logs, TAIL, TAIL)
    bootstrap = Bounds(*((exp_or_inf(end) - 1) * base for end in (resampled.low, resampled.high)))
    return _difference(
        (value, base),
        Bounds((ratio.low - 1) * base, (ratio.high - 1) * base),
        ratio,
        n,
        t_p(logs),
        bootstrap,
    )


def paired_by_prompt(ours: PromptTotals, theirs: PromptTotals) -> Difference:
    """Of two means over requests, each prompt paired with itself.

    Value and interval are of the same requests.
    """
    if not ours or not theirs:
        return no_difference("no prompt that both were asked has the value on both sides")
    prompts = sorted(ours.keys() | theirs.keys())
    mean, base = prompt_mean(ours, prompts), prompt_mean(theirs, prompts)
    change, pulls = mean.value - base.value, mean.pulls - base.pulls
    absolute = t_bounds(change, change + pulls, TAIL, TAIL)
    ratio = prompt_ratio_bounds(ours, theirs, TAIL, TAIL)
    p = t_p(change + pulls) if len(prompts) > 1 else None
    bootstrap = bootstrap_bounds(change + pulls, TAIL, TAIL)
    return _difference((mean.value, base.value), absolute, ratio, len(prompts), p, bootstrap)


def paired_scores(ours: Mapping[str, float], theirs: Mapping[str, float]) -> Difference:
    """Scores prompt by prompt, over the prompts both were asked."""
    common = sorted(ours.keys() & theirs.keys())
    if not common:
        return no_difference("no prompt was scored for both")
    x, y = np.array([ours[p] for p in common]), np.array([theirs[p] for p in common])
    bounds = paired_score_bounds(x - y, TAIL, TAIL)
    bootstrap = bootstrap_bounds(x - y, TAIL, TAIL)
    return _difference(
        (float(np.mean(x)), float(np.mean(y))), bounds, None, len(common), score_p(x - y), bootstrap
    )


def exact_difference(value: float, base: float) -> Difference:
    """Of two numbers that are known, not measured."""
    both = Bounds(value - base, value - base)
    return _difference((value, base), both, Bounds(value / base, value / base) if base else None, 1)


def plain_difference(value: float, base: float, n: int, reason: str) -> Difference:
    """Of two numbers that have no interval together."""
    change = Estimate(value=value - base, n=n, reason=reason)
    if base == 0:
        return Difference(absolute=change, relative=absent("the baseline's value is zero", n))
    return Difference(
        absolute=change, relative=Estimate(value=value / base - 1, n=n, reason=reason)
    )


def cost_difference(pairing: Pairing, price: Price, base: float) -> Difference:
    """Of the cost per request: metered prompt by prompt, self-hosted by blocks.

    `base`: the baseline's, dollars.
    """
    ratio = cost_ratio(pairing.blocks, price)
    if ratio is None:
        return no_difference(
            "the paired blocks have no cost on both sides, or the baseline costs nothing"
        )
    if is_metered(price):
        return paired_by_prompt(*paired_costs(pairing.blocks, price))
    held = [
        (rent(a, price) / a.completed, rent(b, price) / b.completed)
        for a, b in pairing.blocks
        if a.completed and b.completed
    ]
    return _paired_by_block(held, ratio.value * base, base, is_share=False)


def times(change: Difference, factor: float) -> Difference:
    """The difference of two numbers that are both `factor` as large."""
    absolute = change.absolute
    scaled = [
        None if x is None else x * factor for x in (absolute.value, absolute.low, absolute.high)
    ]
    whole = Estimate(
        value=scaled[0], low=scaled[1], high=scaled[2], n=absolute.n, reason=absolute.reason
    )
    bootstrap = (
        Interval(change.bootstrap.low * factor, change.bootstrap.high * factor)
        if change.bootstrap
        else None
    )
    return Difference(absolute=whole, relative=change.relative, p=change.p, bootstrap=bootstrap)


_UNBOUNDED = Bounds(-inf, inf)


def _difference(
    sides: tuple[float, float],
    absolute: Bounds,
    ratio: Bounds | None,
    n: int,
    p: float | None = None,
    bootstrap: Bounds | None = None,
) -> Difference:
    """Of `sides`, the variant's value and the baseline's.

    `ratio` None: that of the absolute bounds over the baseline's value.
    """
    value, base = sides
    reason = None if isfinite(absolute.low) and isfinite(absolute.high) else _ONE_PAIR
    change = estimate(value - base, absolute, n, reason, scale=abs(base))
    resampled = (
        Interval(bootstrap.low, bootstrap.high)
        if bootstrap and isfinite(bootstrap.high - bootstrap.low)
        else None
    )
    if base == 0:
        return Difference(
            absolute=change,
            relative=absent("the baseline's value is zero", n),
            p=p,
            bootstrap=resampled,
        )
    ends = (
        Bounds(ratio.low - 1, ratio.high - 1)
        if ratio
        else Bounds(absolute.low / base, absolute.high / base)
    )
    return Difference(
        absolute=change,
        relative=estimate(value / base - 1, ends, n, reason, scale=1.0),
        p=p,
        bootstrap=resampled,
    )
