"""Bounds of the mean of values that can't lie outside a range, whatever their distribution.

The end of the range joins the values as one more. All of them get random weights, together uniform
on the simplex. The bound is a quantile of the weighted mean (N. Gaffke, "Three test statistics for
a nonparametric one-sided hypothesis on the mean of a nonnegative variable", Math. Methods Stat. 14,
2005; E. Learned-Miller, P. S. Thomas, "A new confidence interval for the mean of a bounded random
variable", arXiv:1905.06208).

Values of 0 and 1 get Clopper and Pearson's exact bound, many values nearly Student's. The bound is
proven for two values of any distribution, and conjectured for more. `make bench-decision` measures
its error rates.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, pi, sqrt

import numpy as np
from scipy.special import betaincinv, ndtr

from foundation.arrays import Floats
from results.statistics.intervals import Bounds

MOST_STEPS, PRECISION = 100, 1e-9
FURTHER = 1.5
_ROUNDING = 1e-12
_CENTRE = 1e-3  # So near the mean, the series of the tail is all rounding.


def bounded_mean_bounds(
    values: Floats, least: float, most: float, low_tail: float, high_tail: float
) -> Bounds:
    """Bounds of the mean of n independent values (n,), each from `least` to `most`."""
    if len(values) == 0:
        return Bounds(least, most)
    levels, counts = np.unique(np.asarray(values, np.float64), return_counts=True)
    mean = float(np.mean(values))
    weights = counts.astype(np.float64)
    low = -_upper(-levels[::-1], weights[::-1], -least, low_tail)
    high = _upper(levels, weights, most, high_tail)
    return Bounds(min(low, mean), max(high, mean))


def score_bounds(scores: Floats, low_tail: float, high_tail: float) -> Bounds:
    """Bounds of the mean of n scores from 0 to 1: Clopper and Pearson's where each is 0 or 1."""
    return bounded_mean_bounds(scores, 0.0, 1.0, low_tail, high_tail)


def paired_score_bounds(differences: Floats, low_tail: float, high_tail: float) -> Bounds:
    """Bounds of the mean of n differences of scores, each from -1 to 1."""
    return bounded_mean_bounds(differences, -1.0, 1.0, low_tail, high_tail)


def extrapolated_mean_bounds(values: Floats, low_tail: float, high_tail: float) -> Bounds:
    """Bounds of the mean of n independent values without a range.

    Each end of the range lies half as far again from the mean as the furthest value on its side. A
    value rarer than one in n may not have been seen, and no bound knows of it.
    """
    mean = float(np.mean(values))
    least, most = (mean + FURTHER * (float(end) - mean) for end in (values.min(), values.max()))
    return bounded_mean_bounds(values, least, most, low_tail, high_tail)


def _upper(levels: Floats, counts: Floats, most: float, tail: float) -> float:
    """The upper bound of the mean of rising `levels`, each as often as `counts`, up to `most`."""
    if levels[-1] == most:
        counts = np.append(counts[:-1], counts[-1] + 1)
    else:
        levels, counts = np.append(levels, most), np.append(counts, 1.0)
    if levels[-1] - levels[0] <= _ROUNDING * abs(most):
        return most
    if len(levels) == 2:
        share = float(betaincinv(counts[1], counts[0], 1 - tail))
        return float(levels[0] + (levels[1] - levels[0]) * share)
    mean = float(np.average(levels, weights=counts))
    deviations = levels - mean
    reach = float(deviations[-1])
    if reach <= 0:  # they differ by less than their mean can tell
        return most

    scaled = deviations / reach  # so that squares of very small ones are not lost
    tilt = _root(lambda at: _tilted(scaled, counts, at)[1] - (1 - tail), tail - 0.5, tail)
    return min(most, mean + reach * _tilted(scaled, counts, tilt)[0])


def _tilted(deviations: Floats, counts: Floats, tilt: float) -> tuple[float, float]:
    """A possible mean, which rises with `tilt`, and the probability of a weighted mean below it.

    Weights uniform on the simplex are exponentials over their sum. The weighted mean is below c
    where the sum of the exponentials times (value - c) is negative. Its probability is a saddle
    point in closed form (R. Lugannani, S. Rice, Adv. Appl. Probab. 12, 1980).
    """
    shares = counts / (1 - tilt * deviations)
    at = float(np.sum(shares * deviations) / np.sum(shares))
    saddle = tilt / (1 - tilt * at)
    off = deviations - at
    left = 1 - saddle * off
    root = sqrt(max(2 * float(np.sum(counts * np.log(left))), 0.0))
    if root < _CENTRE:
        return at, 0.5
    slope = saddle * sqrt(float(np.sum(counts * (off / left) ** 2)))
    return at, float(ndtr(root)) + exp(-root * root / 2) / sqrt(2 * pi) * (1 / root - 1 / slope)


def _root(rising: Callable[[float], float], at_zero: float, at_one: float) -> float:
    """The zero of a function that rises from `at_zero` < 0 at 0 to `at_one` > 0 at 1.

    Regula falsi; the value at an end that stays twice is halved (the Illinois method).
    """
    low, high, last = 0.0, 1.0, 0.0
    for _ in range(MOST_STEPS):
        middle = (low * at_one - high * at_zero) / (at_one - at_zero)
        value = rising(middle)
        if abs(value) < PRECISION:
            break
        if value < 0:
            low, at_zero, at_one = middle, value, at_one / 2 if last < 0 else at_one
        else:
            high, at_one, at_zero = middle, value, at_zero / 2 if last > 0 else at_zero
        last = value
    return middle
