"""Means and percentiles of very many times, kept in several compact arrays that are never joined,
copied or sorted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Part = tuple[NDArray[Any], NDArray[np.bool_] | None]
_SLICE = 1 << 20  # values that are looked at together: they stay in the processor's cache
_BINS = 1 << 17
_DROPPED_BITS = 14  # of a float32's 31 without its sign: 17 remain, 9 of them of the mantissa


@dataclass(frozen=True)
class Times:
    """Times in integer ns: those of `parts`, and `zeros` more that are 0; where there are such,
    none is negative.

    A part is an array and which of its values count, None where all do.
    """

    parts: Sequence[Part]
    zeros: int = 0

    def __len__(self) -> int:
        return self.zeros + sum(
            len(values) if keep is None else int(np.count_nonzero(keep))
            for values, keep in self.parts
        )

    def same_as(self, other: Times) -> bool:
        """Whether the arrays of the other are these very ones, and the same of their values count."""
        return (
            self.zeros == other.zeros
            and len(self.parts) == len(other.parts)
            and all(
                values is others
                and (
                    keep is also
                    or (keep is not None and also is not None and np.array_equal(keep, also))
                )
                for (values, keep), (others, also) in zip(self.parts, other.parts, strict=True)
            )
        )

    def mean(self) -> float:
        """In ms, from an exact sum. There must be a value."""
        return (
            sum(int(values.sum(dtype=np.int64)) for values in _slices(self.parts)) / len(self) / 1e6
        )

    def deviation(self) -> float:
        """The standard deviation of a sample, ms. There must be two values."""
        mean = self.mean()
        squares = sum(float(np.square(values / 1e6 - mean).sum()) for values in _slices(self.parts))
        return sqrt((squares + self.zeros * mean**2) / (len(self) - 1))

    def count_of_zeros(self) -> int:
        return self.zeros + sum(
            len(values) - int(np.count_nonzero(values)) for values in _slices(self.parts)
        )

    def percentiles(self, quantiles: Sequence[float]) -> list[float]:
        """In ms: numpy's linear percentiles, to the last bit. There must be a value."""
        last = len(self) - 1
        places = [last * (q / 100) for q in quantiles]
        ranks = sorted({min(int(place) + step, last) for place in places for step in (0, 1)})
        values = dict(zip(ranks, self._ordered(ranks), strict=True))
        return [
            interpolated(values[int(p)] / 1e6, values[min(int(p) + 1, last)] / 1e6, p - int(p))
            for p in places
        ]

    def _ordered(self, ranks: Sequence[int]) -> list[int]:
        """The values that would stand at some ranks (from 0, rising) if all were sorted."""
        among = [rank - self.zeros for rank in ranks if rank >= self.zeros]
        return [0] * (len(ranks) - len(among)) + (
            order_statistics(self.parts, among) if among else []
        )


def pooled(several: Sequence[Times]) -> Times:
    return Times(
        [part for times in several for part in times.parts], sum(times.zeros for times in several)
    )


def order_statistics(parts: Sequence[Part], ranks: Sequence[int]) -> list[int]:
    """The integers at some ranks (from 0, rising) of all `parts` together, were they sorted.

    Values fall into bins as floating-point numbers have them, narrow where values are small, so
    that a few far out do not make all others share a bin. Only the bins that hold a rank are
    gathered and parted.
    """
    low = min(int(values.min()) for values in _slices(parts) if len(values))
    counts = np.zeros(_BINS, np.int64)
    for values in _slices(parts):
        counts += np.bincount(_bins(values, low), minlength=_BINS)
    ends = np.cumsum(counts)
    of = np.searchsorted(ends, ranks, side="right")
    wanted = np.zeros(_BINS, np.bool_)
    wanted[of] = True
    inside = np.concatenate([values[wanted[_bins(values, low)]] for values in _slices(parts)])
    before = (
        ends[of] - np.cumsum(np.where(wanted, counts, 0))[of]
    )  # values in bins that were not gathered
    places = np.asarray(ranks) - before
    parted = np.partition(inside, np.unique(places))
    return [int(value) for value in parted[places]]


def _bins(values: NDArray[Any], low: int) -> NDArray[np.int32]:
    """A number under `_BINS` for each value, never falling as values rise: the leading bits of its
    distance from `low`.
    """
    distance = np.subtract(values, low, dtype=np.int64).astype(np.float32)
    return np.asarray(distance.view(np.int32) >> _DROPPED_BITS)


def _slices(parts: Sequence[Part]) -> Iterator[NDArray[Any]]:
    for values, keep in parts:
        for begin in range(0, len(values), _SLICE):
            piece = slice(begin, begin + _SLICE)
            yield values[piece] if keep is None else values[piece][keep[piece]]


def interpolated(low: float, high: float, share: float) -> float:
    """numpy's interpolation, which meets `high` exactly."""
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)


@dataclass(frozen=True)
class Statistics:
    """What is asked of n pooled times, in ms; NaN where there is none. `percentiles` are in the
    order they were asked for.
    """

    n: int
    mean: float
    percentiles: Sequence[float]
    zeros: int


def statistics_of(times: Times, quantiles: Sequence[float]) -> Statistics:
    n = len(times)
    if not n:
        return Statistics(0, nan, [nan] * len(quantiles), 0)
    return Statistics(n, times.mean(), times.percentiles(quantiles), times.count_of_zeros())
