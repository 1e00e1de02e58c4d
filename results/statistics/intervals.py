"""Percentiles, means, shares and their differences, with intervals of known error rate.

Two-sided 95 % intervals are for reading, one-sided bounds for deciding. Requests of one block
resemble one another, since a queue remembers; blocks hardly do. A decision therefore takes the
wider of two bounds, one of them from the spread between blocks. On data of equal variants, rank
tests and plain bootstraps of requests find a difference in 20 to 36 % of comparisons. Student's t
on block statistics does so in 3 to 5 %.

`tail` is the probability that a bound is on the wrong side of the truth. A 95 % interval has 0.025
on each side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, exp, floor, inf, log, sqrt

import numpy as np
from scipy.special import bdtr, bdtrik, betaincinv, gammaincinv, stdtr, stdtrit

from foundation.arrays import Floats
from foundation.run.pooled_times import interpolated
from results.metrics import FLOORS
from results.summary import Estimate

TAIL = 0.025
RESAMPLES, MANY = 2000, 30
_ROUNDING = 1 + 1e-9


@dataclass(frozen=True)
class Bounds:
    """A lower and an upper bound, each wrong with its own small probability.

    Infinite where the data can't bound that side.
    """

    low: float
    high: float

    def widest(self, other: Bounds) -> Bounds:
        """The lower of both lower bounds, and the higher of the upper ones."""
        return Bounds(min(self.low, other.low), max(self.high, other.high))

    def around(self, value: float, scale: float = 0.0) -> Bounds:
        """These bounds, widened by rounding errors so that they hold `value`.

        `scale`: the size of the two numbers whose difference the value is.
        Raises ValueError if the value lies further outside; it is then of another population.
        """
        ends = [abs(end) for end in (self.low, self.high) if abs(end) < inf]
        slack = (_ROUNDING - 1) * max(abs(value), scale, *ends)
        if not (abs(value) < inf and self.low - slack <= value <= self.high + slack):
            raise ValueError(
                f"{value!r} lies outside its own bounds, {self.low!r} to {self.high!r}"
            )
        return Bounds(min(self.low, value), max(self.high, value))


UNBOUNDED = Bounds(-inf, inf)


def estimate(
    value: float, bounds: Bounds, n: int, reason: str | None = None, scale: float = 0.0
) -> Estimate:
    """An `Estimate` with the bounds that are finite.

    Raises ValueError where the value lies outside them (`Bounds.around`).
    """
    ends = bounds.around(value, scale)
    return Estimate(value=value, low=_finite(ends.low), high=_finite(ends.high), n=n, reason=reason)


def absent(reason: str, n: int = 0) -> Estimate:
    """A missing number and the reason for it."""
    return Estimate(value=None, n=n, reason=reason)


def floor_reason(q: float, n: int) -> str | None:
    """The reason why n values are too few for their q-th percentile, or None."""
    if n == 0:
        return "no successful request has this value"
    return (
        f"p{q:g} needs at least {FLOORS[q]:,} requests, there are {n:,}" if n < FLOORS[q] else None
    )


def order_statistic_bounds(
    ordered: Floats,
    q: float,
    low_tail: float,
    high_tail: float,
    worth: tuple[float, float] | None = None,
) -> Bounds:
    """Bounds of the q-th percentile of n independent sorted values, whatever their distribution.

    The number of values under the true percentile is binomial(n, q). Its inverse at a tail is the
    rank of the bound. A fractional rank lies between two neighbours, so the probability of the tail
    is met exactly (A. D. Hutson, "Calculating nonparametric confidence intervals for quantiles
    using fractional order statistics", J. Appl. Stat. 26, 1999). `worth`: if the values depend on
    one another, the number of independent ones they equal, for the lower and the upper bound.
    """
    n, p = len(ordered), q / 100
    sizes = worth or (float(n), float(n))
    low, high = (
        (bdtrik(side, size, p) + 1) / (size + 1) * (n + 1)
        for side, size in zip((low_tail, 1 - high_tail), sizes, strict=True)
    )
    bounded_below, bounded_above = (
        (1 - p) ** sizes[0] <= low_tail * _ROUNDING,
        p ** sizes[1] <= high_tail * _ROUNDING,
    )
    return Bounds(
        _at_rank(ordered, float(low)) if bounded_below else -inf,
        _at_rank(ordered, float(high)) if bounded_above else inf,
    )


def _at_rank(ordered: Floats, rank: float) -> float:
    """The value at a fractional rank, infinite if either neighbour is."""
    below, above = ordered[max(floor(rank), 1) - 1], ordered[min(ceil(rank), len(ordered)) - 1]
    return float(below + (above - below) * (rank - floor(rank))) if above < inf else inf


def percentile(values: Floats, q: float) -> Estimate:
    """The q-th percentile (numpy's linear one) with its order-statistic interval.

    Absent under its floor of n.
    """
    return percentiles(values, (q,))[0]


def percentiles(values: Floats, quantiles: Sequence[float]) -> list[Estimate]:
    """The percentiles at `quantiles`, in their order, each as `percentile` gives it."""
    ordered = np.sort(values)
    estimates = []
    for q in quantiles:
        if reason := floor_reason(q, len(values)):
            estimates.append(absent(reason, len(values)))
        else:
            bounds = order_statistic_bounds(ordered, q, TAIL, TAIL)
            estimates.append(estimate(_percentile_of_sorted(ordered, q), bounds, len(values)))
    return estimates


def upper_percentile(values: Floats, q: float) -> float:
    """numpy's linear percentile of values that may be infinite: infinite if it rests on one."""
    return _percentile_of_sorted(np.sort(values), q)


def _percentile_of_sorted(ordered: Floats, q: float) -> float:
    rank = (len(ordered) - 1) * (q / 100)
    below, above = float(ordered[floor(rank)]), float(ordered[ceil(rank)])
    return inf if above == inf else interpolated(below, above, rank - floor(rank))


def log_t_bounds(
    centre: float, blocks: Sequence[float], low_tail: float, high_tail: float
) -> Bounds:
    """Bounds around a positive value from the t distribution of the blocks' logarithms."""
    if centre <= 0 or min(blocks) <= 0 or max(centre, *blocks) == inf:
        return UNBOUNDED
    around = t_bounds(log(centre), np.log(blocks), low_tail, high_tail)
    return Bounds(exp_or_inf(around.low), exp_or_inf(around.high))


def t_bounds(
    centre: float, values: Sequence[float] | Floats, low_tail: float, high_tail: float
) -> Bounds:
    """Bounds around `centre`, the mean of k independent values, by Student's t."""
    k = len(values)
    return t_bounds_of(
        centre, float(np.std(values, ddof=1)) if k > 1 else inf, k, low_tail, high_tail
    )


def t_bounds_of(
    centre: float, deviation: float, k: int, low_tail: float, high_tail: float
) -> Bounds:
    """`t_bounds` from the values' standard deviation and their number."""
    if k < 2:
        return UNBOUNDED
    error = deviation / sqrt(k)
    return Bounds(
        centre + error * float(stdtrit(k - 1, low_tail)),
        centre - error * float(stdtrit(k - 1, high_tail)),
    )


def paired_log_bounds(
    variant: Sequence[float], base: Sequence[float], ratio: float, low_tail: float, high_tail: float
) -> Bounds:
    """Bounds of a ratio, variant over baseline: t on the log-ratios of paired blocks.

    `variant[i]` and `base[i]` are the statistic in the i-th pair. What both share, such as a drift
    of the machine, drops out. The report shows `ratio`, that of the pooled requests; bounds that
    exclude it are widened to hold it.
    """
    if ratio <= 0 or len(variant) < 2 or min(*variant, *base) <= 0:
        return UNBOUNDED
    changes = np.log(variant) - np.log(base)
    around = t_bounds(float(np.mean(changes)), changes, low_tail, high_tail)
    return Bounds(min(exp_or_inf(around.low), ratio), max(exp_or_inf(around.high), ratio))


def ratio_bounds(
    numerators: Floats, denominators: Floats, low_tail: float, high_tail: float
) -> Bounds:
    """Bounds of mean(numerators) / mean(denominators), n pairs: the delta method with t."""
    n, below = len(numerators), float(np.mean(denominators)) if len(denominators) else 0.0
    if n < 2 or below <= 0:
        return UNBOUNDED
    ratio = float(np.mean(numerators)) / below
    return t_bounds(ratio, ratio + (numerators - ratio * denominators) / below, low_tail, high_tail)


def count_bounds(count: int, low_tail: float, high_tail: float) -> Bounds:
    """Exact bounds of a Poisson mean from one count (F. Garwood, Biometrika 28, 1936)."""
    low = float(gammaincinv(count, low_tail)) if count > 0 else 0.0
    return Bounds(low, float(gammaincinv(count + 1, 1 - high_tail)))


def share_bounds(successes: float, n: float, low_tail: float, high_tail: float) -> Bounds:
    """Exact bounds of a share from the binomial; 0 to 1 where nothing was observed.

    C. J. Clopper, E. S. Pearson, Biometrika 26, 1934.
    """
    low = float(betaincinv(successes, n - successes + 1, low_tail)) if successes > 0 else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - high_tail)) if successes < n else 1.0
    return Bounds(low, high)


def bootstrap_bounds(values: Sequence[float] | Floats, low_tail: float, high_tail: float) -> Bounds:
    """Bounds of the mean of k independent values by resampling them, equal values by their counts.

    From `MANY` values on, the bounds are percentiles of the resampled means. Fewer values, such as
    blocks, take the bootstrap of t: it measures each resampled mean in its own standard error (B.
    Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 12.5). Percentiles of
    the means of ten blocks would be wrong twice as often as they say. Unbounded under four values.
    """
    k = len(values)
    if k < 4:
        return UNBOUNDED
    distinct, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    drawn = np.random.default_rng(k).multinomial(k, counts / k, size=RESAMPLES)
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / sqrt(k)
    means = drawn @ distinct / k
    if k >= MANY:
        low, high = np.quantile(means, [low_tail, 1 - high_tail])
        return Bounds(float(low), float(high))
    errors = np.sqrt(
        np.maximum(drawn @ (distinct - mean) ** 2 / k - (means - mean) ** 2, 0) / (k - 1)
    )
    if error == 0:
        return Bounds(mean, mean)
    alike = errors <= 1e-9 * error  # a resample of one value only, infinitely many errors away
    far = (means - mean) / np.where(alike, 1e-9 * error, errors)
    low, high = np.quantile(far, [high_tail, 1 - low_tail])
    return Bounds(mean - float(high) * error, mean - float(low) * error)


def t_p(values: Sequence[float] | Floats) -> float:
    """The two-sided p-value of a mean of zero, from Student's t over k independent values."""
    mean, k = float(np.mean(values)), len(values)
    error = float(np.std(values, ddof=1)) / sqrt(k) if k > 1 else inf
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return 2 * float(stdtr(k - 1, -abs(mean / error))) if k > 1 else 1.0


def score_p(differences: Floats) -> float:
    """The two-sided p-value of no change in n scores.

    McNemar's exact test if each is won, lost or even, else t.
    """
    won, lost = int(np.sum(differences == 1)), int(np.sum(differences == -1))
    if won + lost != int(np.sum(differences != 0)):
        return t_p(differences)
    return min(1.0, 2 * float(bdtr(min(won, lost), won + lost, 0.5)))


def holm(p_values: Mapping[str, float], alpha: float = 0.05) -> dict[str, bool]:
    """Which hypotheses Holm's correction rejects, by name.

    A false rejection among them all has a probability of at most `alpha` (S. Holm, Scand. J. Stat.
    6, 1979).
    """
    rejected, going = {}, True
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        going = going and p <= alpha / (len(p_values) - rank)
        rejected[name] = going
    return rejected


def smallest(start: int, enough: Callable[[int], bool]) -> int:
    """A whole number from `start` that is enough, one less not; 0 over a hundred million."""
    short, n = start, max(start, 1)
    while not enough(n):
        short, n = n, 2 * n
        if n > 10**8:
            return 0
    while n - short > 1:
        middle = (n + short) // 2
        short, n = (short, middle) if enough(middle) else (middle, n)
    return n


def _finite(value: float) -> float | None:
    return value if abs(value) < inf else None


def exp_or_inf(value: float) -> float:
    """Infinite where `exp` would overflow."""
    return inf if value > 700 else exp(value)
