"""Statistics of unpaired samples: t between blocks, exact tests between counts, tests by rank.

Functions take `tail`, the probability with which each bound may be on the wrong side of the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt

import numpy as np
from scipy.special import chdtrc, gammaln, stdtr, stdtrit

from foundation.arrays import Floats
from results.statistics.block_shares import block_share_bounds
from results.statistics.intervals import Bounds

_TIES = 1 + 1e-7


@dataclass(frozen=True)
class Welch:
    """The change of a mean between two samples of unequal spread.

    B. L. Welch, Biometrika 34, 1947. `error` is its standard error; `freedom` are the degrees of
    freedom of t.
    """

    change: float
    error: float
    freedom: float

    @classmethod
    def of(cls, after: Sequence[float], before: Sequence[float]) -> Welch:
        """Each sample holds at least two independent values."""
        parts = [float(np.var(side, ddof=1)) / len(side) for side in (after, before)]
        change, variance = float(np.mean(after) - np.mean(before)), sum(parts)
        squares = sum(
            part**2 / (len(side) - 1) for part, side in zip(parts, (after, before), strict=True)
        )
        return cls(change, sqrt(variance), variance**2 / squares if squares > 0 else 1.0)

    @classmethod
    def of_pairs(cls, after: Sequence[float], before: Sequence[float]) -> Welch:
        """Student's t of at least two pairs, if the i-th values share most of their spread."""
        changes = np.subtract(after, before)
        return cls(
            float(np.mean(changes)),
            float(np.std(changes, ddof=1)) / sqrt(len(changes)),
            len(changes) - 1.0,
        )

    def bounds(self, tail: float) -> Bounds:
        """Bounds of the change, each wrong with probability `tail`."""
        reach = self.error * float(stdtrit(self.freedom, 1 - tail))
        return Bounds(self.change - reach, self.change + reach)

    @property
    def p(self) -> float:
        """The two-sided p-value of no change."""
        if self.error == 0:
            return float(self.change == 0)
        return 2 * float(stdtr(self.freedom, -abs(self.change / self.error)))


def fisher_p(count: int, n: int, other: int, m: int) -> float:
    """The two-sided p-value of equal shares, `count` of `n` and `other` of `m`.

    R. A. Fisher's exact test: it adds up every table with the same margins that is no more likely
    than the one observed.
    """
    successes = count + other
    table = np.arange(max(0, successes - m), min(n, successes) + 1)
    logs = _log_choose(n, table) + _log_choose(m, successes - table)
    chances = np.exp(logs - logs.max())
    observed = chances[table == count]
    return float(chances[chances <= observed * _TIES].sum() / chances.sum())


def kruskal_p(groups: Sequence[Floats]) -> float:
    """The p-value that two or more samples, each (n,), come from one distribution.

    W. H. Kruskal, W. A. Wallis, J. Am. Stat. Assoc. 47, 1952, with their correction for ties.
    """
    values, place = np.unique(np.concatenate(groups), return_inverse=True)
    ties = np.bincount(place)
    n = float(ties.sum())
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[place]
    parts = np.split(ranks, np.cumsum([len(group) for group in groups])[:-1])
    spread = sum(float(part.sum()) ** 2 / len(part) for part in parts)
    apart = 12 / (n * (n + 1)) * spread - 3 * (n + 1)
    if len(values) == 1:
        return 1.0
    return float(chdtrc(len(groups) - 1, apart / (1 - float((ties**3 - ties).sum()) / (n**3 - n))))


def _log_choose(n: int, k: np.typing.NDArray[np.int64]) -> np.typing.NDArray[np.float64]:
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))


@dataclass(frozen=True)
class Counted:
    """How many requests of each block (k,) count, `counts`, of `sizes`.

    Blocks without requests say nothing.
    """

    counts: Sequence[int]
    sizes: Sequence[int]

    @classmethod
    def of(cls, pairs: Sequence[tuple[int, int]]) -> Counted:
        """From a count and a size a block."""
        counts = [(count, size) for count, size in pairs if size]
        return cls([count for count, _ in counts], [size for _, size in counts])

    @property
    def total(self) -> int:
        """What is counted in all blocks."""
        return sum(self.counts)

    @property
    def n(self) -> int:
        """The requests of all blocks."""
        return sum(self.sizes)

    @property
    def shares(self) -> list[float]:
        """The share of each block."""
        return [count / size for count, size in zip(self.counts, self.sizes, strict=True)]

    @property
    def in_bursts(self) -> bool:
        """Whether the blocks' shares spread more than chance explains at 5 %.

        The chi-squared test of dispersion.
        """
        share, k = self.total / self.n if self.n else 0.0, len(self.sizes)
        if k < 2 or not 0 < share < 1:
            return False
        off = [
            (count - share * size) ** 2 / size
            for count, size in zip(self.counts, self.sizes, strict=True)
        ]
        return float(chdtrc(k - 1, sum(off) / (share * (1 - share)))) < 0.05


def share_change_bounds(after: Counted, before: Counted, tail: float) -> Bounds:
    """Bounds of a share less another, each with half of `tail`; they hold for bursts too."""
    now, then = (
        block_share_bounds(side.counts, side.sizes, tail / 2, tail / 2) for side in (after, before)
    )
    return Bounds(now.low - then.high, now.high - then.low)


def finite(bounds: Bounds) -> bool:
    """Whether both bounds are finite."""
    return isfinite(bounds.low) and isfinite(bounds.high)
