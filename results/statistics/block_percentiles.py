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
    exp_or_inf,
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

    A failed request is infinite.

    The first bound is from order statistics, with the number of requests divided by the design
    effect (E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small expected
    number of positive counts estimated from survey data", Surv. Methodol. 24, 1998). The second is
    t over the blocks' log-percentiles. The third is `mixture_bounds`: without it, a variant at its
    limit passes in 10 to 25 % of runs where blocks differ much. It rests on a model of blocks, so
    its tails are halved.

    One block has only the first bound. Consecutive parts of it show how its requests depend on one
    another. No part shows how another block would differ, so the tails are halved.
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

    A block's level is the logarithm of its own q-th percentile; levels are normal. Around its level
    a block's requests are distributed as in the slower half of the blocks, which make the tail. By
    generalised inference (k - 1) s^2 / sigma^2 of the levels is chi-squared, their mean normal (K.
    Krishnamoorthy, T. Mathew, "One-sided tolerance limits in balanced and unbalanced one-way random
    models based on generalized confidence intervals", Technometrics 46, 2004). If every request lay
    at its block's level, this would be the classic normal tolerance limit.
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
        """The value that the percentile is below with probability `tail`."""
        low, high = (np.array([end]) for end in (centres.min() - reach, centres.max() + reach))
        return float(
            _roots(
                lambda at: np.array([ndtr((at - centres) * sqrt(k) / spreads) @ _WEIGHTS - tail]),
                low,
                high,
            )[0]
        )

    return Bounds(exp_or_inf(chance(low_tail)), exp_or_inf(chance(1 - high_tail)))


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
    """The zero of each of several rising functions, by halving between `low` and `high`."""
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
    """The number of independent requests that n equal, for the bound of either tail.

    It is n over the design effect, reduced since the effect is itself estimated (t for normal).
    """
    if blocks < 2:
        return n, n
    unsure = (float(ndtri(tail) / stdtrit(blocks - 1, tail)) ** 2 for tail in tails)
    low, high = (min(float(n), n / max(effect, 1e-9) * each) for each in unsure)
    return low, high
