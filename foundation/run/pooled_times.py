"""Means and percentiles of very many times.

The times lie in several compact arrays, which are never joined, copied or sorted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Part = tuple[NDArray[Any], NDArray[np.bool_] | None]
_SLICE = 1 << 20  # values that are processed together: they stay in the processor's cache
_BINS = 1 << 17
_DROPPED_BITS = 14  # of a float32's 31 without its sign: 17 remain, 9 of them of the mantissa


@dataclass(frozen=True)
class Times:
    """Times in integer ns: the values of `parts`, and `zeros` values of 0.

    A part is an array and a mask of the values that count, None where all count. If `zeros` is
    above 0, no value is negative.
    """

    parts: Sequence[Part]
    zeros: int = 0

    def __len__(self) -> int:
        return self.zeros + sum(
            len(values) if keep is None else int(np.count_nonzero(keep))
            for values, keep in self.parts
        )

    def same_as(self, other: Times) -> bool:
        """Whether `other` has the same array objects, and the same of their values count."""
        return (
            self.zeros == other.zeros
            and len(self.parts) == len(other.parts)
            and all(
                values is other_values
                and (
                    keep is other_keep
                    or (
                        keep is not None
                        and other_keep is not None
                        and np.array_equal(keep, other_keep)
                    )
                )
                for (values, keep), (other_values, other_keep) in zip(
                    self.parts, other.parts, strict=True
                )
            )
        )

    def mean(self) -> float:
        """The mean in ms, from an exact sum. There must be a value."""
        return (
            sum(int(values.sum(dtype=np.int64)) for values in _slices(self.parts)) / len(self) / 1e6
        )

    def deviation(self) -> float:
        """The sample standard deviation in ms. There must be two values."""
        mean = self.mean()
        squares = sum(float(np.square(values / 1e6 - mean).sum()) for values in _slices(self.parts))
        return sqrt((squares + self.zeros * mean**2) / (len(self) - 1))

    def count_of_zeros(self) -> int:
        """How many of the times are 0."""
        return self.zeros + sum(
            len(values) - int(np.count_nonzero(values)) for values in _slices(self.parts)
        )

    def percentiles(self, quantiles: Sequence[float]) -> list[float]:
        """Percentiles in ms, to the last bit numpy's linear ones. There must be a value."""
        last = len(self) - 1
        places = [last * (q / 100) for q in quantiles]
        ranks = sorted({min(int(place) + step, last) for place in places for step in (0, 1)})
        values = dict(zip(ranks, self._ordered(ranks), strict=True))
        return [
            interpolated(values[int(p)] / 1e6, values[min(int(p) + 1, last)] / 1e6, p - int(p))
            for p in places
        ]

    def _ordered(self, ranks: Sequence[int]) -> list[int]:
        """The values at some ranks (from 0, rising) of the sorted times."""
        in_parts = [rank - self.zeros for rank in ranks if rank >= self.zeros]
        return [0] * (len(ranks) - len(in_parts)) + (
            order_statistics(self.parts, in_parts) if in_parts else []
        )


def pooled(several: Sequence[Times]) -> Times:
    """The times of several together."""
    return Times(
        [part for times in several for part in times.parts], sum(times.zeros for times in several)
    )


def order_statistics(parts: Sequence[Part], ranks: Sequence[int]) -> list[int]:
    """The integers at some ranks (from 0, rising) of all `parts` together, if they were sorted.

    The bins are those of floating-point numbers: narrow where values are small. So a few far values
    do not push all others into one bin. Only the bins that hold a rank are gathered and
    partitioned.
    """
    low = min(int(values.min()) for values in _slices(parts) if len(values))
    counts = np.zeros(_BINS, np.int64)
    for values in _slices(parts):
        counts += np.bincount(_bins(values, low), minlength=_BINS)
    ends = np.cumsum(counts)
    bins = np.searchsorted(ends, ranks, side="right")
    is_needed = np.zeros(_BINS, np.bool_)
    is_needed[bins] = True
    inside = np.concatenate([values[is_needed[_bins(values, low)]] for values in _slices(parts)])
    # Values in bins that were not gathered.
    before = ends[bins] - np.cumsum(np.where(is_needed, counts, 0))[bins]
    inner_ranks = np.asarray(ranks) - before
    partitioned = np.partition(inside, np.unique(inner_ranks))
    return [int(value) for value in partitioned[inner_ranks]]


def _bins(values: NDArray[Any], low: int) -> NDArray[np.int32]:
    """A bin below `_BINS` for each value: the leading bits of its distance from `low`.

    The bins never fall as values rise.
    """
    distance = np.subtract(values, low, dtype=np.int64).astype(np.float32)
    return np.asarray(distance.view(np.int32) >> _DROPPED_BITS)


def _slices(parts: Sequence[Part]) -> Iterator[NDArray[Any]]:
    for values, keep in parts:
        for begin in range(0, len(values), _SLICE):
            piece = slice(begin, begin + _SLICE)
            yield values[piece] if keep is None else values[piece][keep[piece]]


def interpolated(low: float, high: float, share: float) -> float:
    """numpy's linear interpolation, which meets `high` exactly."""
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)


@dataclass(frozen=True)
class Statistics:
    """Statistics of n pooled times in ms, NaN without a time.

    `percentiles` are in the order of the quantiles that were requested.
    """

    n: int
    mean: float
    percentiles: Sequence[float]
    zeros: int


def statistics_of(times: Times, quantiles: Sequence[float]) -> Statistics:
    """Count, mean, percentiles and zeros of some times; `quantiles` in percent."""
    n = len(times)
    if not n:
        return Statistics(0, nan, [nan] * len(quantiles), 0)
    return Statistics(n, times.mean(), times.percentiles(quantiles), times.count_of_zeros())
