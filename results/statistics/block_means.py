"""Bounds to decide a mean on, for skewed values and for blocks that differ."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
from scipy.special import chdtri, ndtr

from foundation.arrays import Floats
from results.statistics.bounded_means import extrapolated_mean_bounds
from results.statistics.intervals import UNBOUNDED, Bounds, exp_or_inf, t_bounds

HALVINGS = 40
_EDGES = (
    np.arange(25) / 24
) ** 3  # Of the chi-squared quantiles: densest where the spread is largest.
_QUANTILES, _WEIGHTS = (_EDGES[1:] + _EDGES[:-1]) / 2, np.diff(_EDGES)


def block_mean_bounds(
    blocks: Sequence[Floats],
    low_tail: float,
    high_tail: float,
    independent: bool = True,
) -> Bounds:
    """Bounds of the mean of all values: the widest of three. Unbounded from one block.

    The first is Student's t over the blocks' means. The second is `lognormal_mean_bounds` over
    them: where they are skewed, t alone lets a variant at its limit through in up to 15 % of runs.
    The third is `extrapolated_mean_bounds` over the values, which show a skew that a few blocks
    hide. It is left out unless the values of a block are `independent`.
    """
    if len(blocks) < 2:
        return UNBOUNDED
    pooled = np.concatenate(blocks)
    means = np.array([float(np.mean(block)) for block in blocks])
    bounds = t_bounds(float(np.mean(pooled)), means, low_tail, high_tail)
    bounds = bounds.widest(lognormal_mean_bounds(means, low_tail, high_tail))
    return (
        bounds.widest(extrapolated_mean_bounds(pooled, low_tail, high_tail))
        if independent
        else bounds
    )


def lognormal_mean_bounds(values: Floats, low_tail: float, high_tail: float) -> Bounds:
    """Bounds of the mean of k lognormal values; the mean itself unless all are positive.

    The mean of a lognormal is exp(mean + variance / 2) of the logarithms. By generalised inference
    their variance is (k - 1) s^2 over a chi-squared, their mean normal around its estimate (K.
    Krishnamoorthy, T. Mathew, "Inferences on the means of lognormal distributions using generalized
    p-values and generalized confidence intervals", J. Stat. Plan. Inference 115, 2003).
    """
    k, mean = len(values), float(np.mean(values))
    if len(values) < 2 or values.min() <= 0:
        return Bounds(mean, mean)
    logs = np.log(values)
    spreads = max(float(np.std(logs, ddof=1)), 1e-12) * np.sqrt(
        (k - 1) / chdtri(k - 1, 1 - _QUANTILES)
    )
    centres = float(np.mean(logs)) + spreads**2 / 2

    tails = np.array([low_tail, 1 - high_tail])
    low, high = (
        np.full(2, end) for end in ((centres - 9 * spreads).min(), (centres + 9 * spreads).max())
    )
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = ndtr((middle[:, None] - centres) * sqrt(k) / spreads) @ _WEIGHTS < tails
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return Bounds(*(exp_or_inf(float(end)) for end in (low + high) / 2))
