"""Bounds to decide a percentile on, for requests that depend on one another in a block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, sqrt

import numpy as np
from scipy.special import chdtri, ndtr, ndtri, stdtrit

from foundation.arrays import Floats
from results.statistics.intervals import (
    UNBOUNDED,
    Bounds,
    exp_,
    log_t_bounds,
    order_statistic_bounds,
    upper_percentile,
)

BODY_POINTS, TAIL_POINTS, HALVINGS = 20, 36, 32
PARTS, LEAST_IN_PART = 5, 25
_EDGES = (
    np.arange(25) / 24
) ** 3  # of the chi-squared quantiles: densest where the spread is largest
_QUANTILES, _WEIGHTS = (_EDGES[1:] + _EDGES[:-1]) / 2, np.diff(_EDGES)


def percentile_bounds(
    blocks: Sequence[Floats], q: float, low_tail: float, high_tail: float
) -> Bounds:
    """Bounds of the q-th percentile of all requests: the widest of three.

    A failed request is infinite. First, order statistics over as many requests as the pooled ones
    are worth: their number over the design effect, which is how much more the blocks' shares above
    the percentile spread than independent requests would make them (E. L. Korn and B. I. Graubard,
    "Confidence intervals for proportions with small expected number of positive counts estimated
    from survey data", Surv. Methodol. 24, 1998). Then t over the blocks' log-percentiles. Then
    `mixture_bounds`, without which blocks that differ much let a variant at its limit through in 10
    to 25 % of runs; it is but a model of blocks, so its tails are halved. Of one block only the
    first, over consecutive parts of it, which tell how its requests hang together; with halved
    tails, since no part tells how another block would differ.
    """
    pooled = np.sort(np.concatenate(blocks))
    if len(blocks) < 2:
        parts = np.array_split(blocks[0], max(1, min(PARTS, len(pooled) // LEAST_IN_PART)))
        return _ranked(pooled, parts, q, low_tail / 2, high_tail / 2)
    ranked = _ranked(pooled, blocks, q, low_tail, high_tail)
    own = [upper_percentile(block, q) for block in blocks]
    around = log_t_bounds(upper_percentile(pooled, q), own, low_tail, high_tail)
    mixed = mixture_bounds(blocks, q, low_tail / 2, high_tail / 2)
    if mixed.high < inf:  # too few to be bounded by ranks are bounded by the model
        ranked = Bounds(
            ranked.low if ranked.low > -inf else mixed.low,
            ranked.high if ranked.high < inf else mixed.high,
        )
    return ranked.widest(around).widest(mixed)


def _ranked(
    pooled: Floats, blocks: Sequence[Floats], q: float, low_tail: float, high_tail: float
) -> Bounds:
    worth = worths(len(pooled), len(blocks), design_effect(blocks, q), (low_tail, high_tail))
    return order_statistic_bounds(pooled, q, low_tail, high_tail, worth)


def mixture_bounds(blocks: Sequence[Floats], q: float, low_tail: float, high_tail: float) -> Bounds:
    """Bounds of the q-th percentile of positive values in k blocks of lognormal levels.

    A block's level is its own q-th percentile; levels are normal, and around its level a block's
    requests lie as those of the slower half of the blocks do, for they make the tail. What is not
    known of the levels' mean and spread is generalised inference: (k - 1) s^2 / sigma^2 is
    chi-squared, the mean normal (K. Krishnamoorthy, T. Mathew, "One-sided tolerance limits in
    balanced and unbalanced one-way random models based on generalized confidence intervals",
    Technometrics 46, 2004). With nothing around the levels it is the classic normal tolerance
    limit.
    """
    k, p = len(blocks), q / 100
    own = np.array([upper_percentile(block, q) for block in blocks])
    if len(blocks) < 2 or own.min() <= 0 or own.max() == inf:
        return UNBOUNDED
    levels = np.log(own)
    slower = np.argsort(levels)[len(blocks) // 2 :]
    with np.errstate(divide="ignore"):  # a gap of zero is far below any level
        around = np.concatenate([np.log(blocks[i]) - levels[i] for i in slower])
    points, weights = _condensed(around, p)
    mean, deviation = float(np.mean(levels)), max(float(np.std(levels, ddof=1)), 1e-9)
    spreads = deviation * np.sqrt((k - 1) / chdtri(k - 1, 1 - _QUANTILES))

    def beyond(at: Floats) -> Floats:
        """For each spread of the levels, the share of requests below `at`, less the wanted one."""
        return np.asarray(ndtr((at[:, None] - points) / spreads[:, None]) @ weights - p)

    finite = points[np.isfinite(points)]
    if (
        np.sum(weights[points < inf]) <= p
    ):  # among the slower blocks, more failed than the percentile leaves out
        return UNBOUNDED
    centres = mean + _roots(beyond, finite.min() - 9 * spreads, finite.max() + 9 * spreads)
    reach = 9 * spreads.max() / sqrt(k)

    def chance(tail: float) -> float:
        """Where the percentile lies below with probability `tail`."""
        low, high = (np.array([end]) for end in (centres.min() - reach, centres.max() + reach))
        return float(
            _roots(
                lambda at: np.array([ndtr((at - centres) * sqrt(k) / spreads) @ _WEIGHTS - tail]),
                low,
                high,
            )[0]
        )

    return Bounds(exp_(chance(low_tail)), exp_(chance(1 - high_tail)))


def _condensed(values: Floats, p: float) -> tuple[Floats, Floats]:
    """A few points of a distribution and their weights, most of them around its p-quantile."""
    split = max(0.0, 1 - 4 * (1 - p))
    shares = [
        split * (np.arange(BODY_POINTS) + 0.5) / BODY_POINTS,
        split + (1 - split) * (np.arange(TAIL_POINTS) + 0.5) / TAIL_POINTS,
    ]
    weights = [
        np.full(BODY_POINTS, split / BODY_POINTS),
        np.full(TAIL_POINTS, (1 - split) / TAIL_POINTS),
    ]
    return np.asarray(
        np.quantile(values, np.concatenate(shares), method="inverted_cdf"), np.float64
    ), np.concatenate(weights)


def _roots(rising: Callable[[Floats], Floats], low: Floats, high: Floats) -> Floats:
    """Where each of some rising functions is zero, by halving between `low` and `high`."""
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = rising(middle) < 0
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray((low + high) / 2)


def design_effect(blocks: Sequence[Floats], q: float) -> float:
    """The design effect: the variance of the blocks' shares over that of independent requests."""
    if len(blocks) < 2:
        return 1.0
    pooled, p = np.concatenate(blocks), q / 100
    value = upper_percentile(pooled, q)
    above = [float(np.mean(block > value)) for block in blocks]
    return float(np.var(above, ddof=1)) * len(pooled) / len(blocks) / (p * (1 - p))


def worths(n: int, blocks: int, effect: float, tails: tuple[float, float]) -> tuple[float, float]:
    """How many independent requests n are worth, for the bound of either tail.

    Their number over the design effect, less what is not known of the effect itself (t instead of
    normal).
    """
    if blocks < 2:
        return n, n
    unsure = (float(ndtri(tail) / stdtrit(blocks - 1, tail)) ** 2 for tail in tails)
    low, high = (min(float(n), n / max(effect, 1e-9) * each) for each in unsure)
    return low, high
