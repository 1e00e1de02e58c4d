"""The content chunks of many requests in a few compact arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundation.arrays import Flags, Floats, Ints
from foundation.run.pooled_times import Times

CHUNK_TIMES = ("itl", "icl", "client_lag")
_SLICE = 1 << 16  # requests gathered at a time, which keeps the index array small


@dataclass(frozen=True)
class Chunks:
    """The content chunks of n requests, request after request, in the smallest exact integers.

    `count` (n,): chunks of each request. `gap_ns`: gaps between the successive chunks of a request,
    one less than its chunks. `tokens`: one number a chunk, 0 where the tokens were not counted.
    `lags` (n,): client lags of each request: one for each of its chunks, or none. `lag_ns`: those
    lags.
    """

    count: Ints
    gap_ns: NDArray[Any]
    tokens: NDArray[Any]
    lags: Ints
    lag_ns: NDArray[Any]

    @cached_property
    def gaps(self) -> Ints:
        """The number of gaps of each request, (n,)."""
        return np.maximum(self.count - 1, 0)

    @cached_property
    def tokens_of(self) -> Ints:
        """The tokens of each request's chunks, (n,)."""
        return sums(self.tokens, self.count)

    def times(self, name: str, of: Flags) -> Times:
        """The times of one kind (`CHUNK_TIMES`) of the requests in the mask `of` (n,)."""
        if name == "client_lag":
            return Times([(self.lag_ns, _each(of, self.lags))])
        if name == "icl":
            return Times([(self.gap_ns, _each(of, self.gaps))])
        plain, odd = self._plain & of, self._odd & of
        gaps = [(self.gap_ns, _each(plain, self.gaps))]
        if odd.any():
            gaps.append((self.take(np.flatnonzero(odd)).token_gaps()[0], None))
        return Times(gaps, zeros=int((self.tokens_of - self.count)[plain].sum()))

    def values(self, name: str, of: Flags) -> Floats:
        """The same times in ms, in the order in which they came."""
        if name == "client_lag":
            return np.asarray(self.lag_ns[np.repeat(of, self.lags)] / 1e6)
        if name == "icl":
            return np.asarray(self.gap_ns[np.repeat(of, self.gaps)] / 1e6)
        return np.asarray(self.take(np.flatnonzero(of)).token_gaps()[0] / 1e6)

    def means(self, name: str) -> Floats:
        """The mean of each request's times in ms, (n,), NaN for a request without any."""
        if name == "client_lag":
            total, count = sums(self.lag_ns, self.lags), self.lags
        elif name == "icl":
            total, count = sums(self.gap_ns, self.gaps), self.gaps
        else:
            total, count = (
                np.where(self._plain, sums(self.gap_ns, self.gaps), 0),
                np.maximum(self.tokens_of - 1, 0),
            )
            odd = np.flatnonzero(self._odd)
            total[odd] = sums(*self.take(odd).token_gaps())
        return np.asarray(np.where(count > 0, total, np.nan) / np.maximum(count, 1) / 1e6)

    def token_gaps(self) -> tuple[Ints, Ints]:
        """The gaps between successive tokens of each request in ns, and their number for each
        request.

        Tokens of one chunk have gap 0 after the first. A chunk without a token only passes time.
        """
        request = np.repeat(np.arange(len(self.count)), self.count)
        at_ns = np.zeros(len(request), np.int64)
        at_ns[_not_first(self.count)] = self.gap_ns
        at_ns = np.cumsum(at_ns)
        tokens = self.tokens.astype(np.int64)
        by_token, owner = np.repeat(at_ns, tokens), np.repeat(request, tokens)
        return np.diff(by_token)[owner[1:] == owner[:-1]], np.maximum(self.tokens_of - 1, 0)

    @cached_property
    def _odd(self) -> Flags:
        """Requests in which some chunks have a token and some have none, (n,)."""
        return (sums(self.tokens == 0, self.count) > 0) & (self.tokens_of > 0)

    @cached_property
    def _plain(self) -> Flags:
        """Requests in which every chunk has a token, (n,).

        Their gaps between tokens are their gaps between chunks and zeros.
        """
        return (self.tokens_of > 0) & ~self._odd

    def take(self, index: Ints) -> Chunks:
        """The chunks of the requests at `index`, in that order."""
        return Chunks(
            count=self.count[as_slice(index)],
            gap_ns=_gather(self.gap_ns, self.gaps, index),
            tokens=_gather(self.tokens, self.count, index),
            lags=self.lags[as_slice(index)],
            lag_ns=_gather(self.lag_ns, self.lags, index),
        )


def chunks_of(count: Ints, chunk_ns: Ints, tokens: Ints, lags: Ints, lag_ns: Ints) -> Chunks:
    """Chunks from a journal's numbers.

    `chunk_ns` and `tokens` have one value a chunk. The first stamp of each request counts from the
    origin.
    """
    return Chunks(
        count, compact(chunk_ns[_not_first(count)]), compact(tokens), lags, compact(lag_ns)
    )


def joined(parts: Sequence[Chunks]) -> Chunks:
    """The chunks of several groups of requests, one group after another."""
    columns = [
        _together([getattr(part, name) for part in parts])
        for name in ("count", "gap_ns", "tokens", "lags", "lag_ns")
    ]
    return Chunks(*columns)


def _together(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """The parts as one array.

    Where all values are equal, as most chunks have one token, it is a view of a single value.
    """
    values = np.concatenate(parts)
    return (
        np.broadcast_to(values[:1].copy(), len(values))
        if len(values) and (values == values[0]).all()
        else values
    )


def compact(values: Ints) -> NDArray[Any]:
    """The same integers in 1 or 4 bytes where all of them fit."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    for dtype in (np.uint8, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return values.astype(dtype)
    return values


def sums(values: NDArray[Any], counts: Ints) -> Ints:
    """The exact sums of the first counts[0] values, of the next counts[1], and so on, (n,)."""
    total = np.zeros(len(counts), np.int64)
    filled = counts > 0
    if filled.any():
        starts = (np.cumsum(counts) - counts)[filled]
        total[filled] = np.add.reduceat(values, starts, dtype=np.int64)
    return total


def _each(of: Flags, counts: Ints) -> Flags | None:
    """A mask of the values that belong to requests in `of`; None where all do."""
    return None if not counts[~of].any() else np.repeat(of, counts)


def _not_first(count: Ints) -> NDArray[np.bool_]:
    """A mask of the chunks that are not the first of their request."""
    later = np.ones(int(count.sum()), np.bool_)
    later[(np.cumsum(count) - count)[count > 0]] = False
    return later


def as_slice(index: Ints) -> Ints | slice:
    """`index` as a slice where its places are consecutive: numpy then copies nothing."""
    if len(index) and index[-1] - index[0] == len(index) - 1 and bool((np.diff(index) == 1).all()):
        return slice(int(index[0]), int(index[-1]) + 1)
    return index


def _gather(values: NDArray[Any], counts: Ints, index: Ints) -> NDArray[Any]:
    """The values of the requests at `index`, where request i has counts[i] values."""
    ends = np.cumsum(counts)
    starts, chosen = ends - counts, counts[index]
    if isinstance(as_slice(index), slice):
        return values[starts[index[0]] : ends[index[-1]]]
    gathered = np.empty(int(chosen.sum()), values.dtype)
    at = 0
    for begin in range(0, len(index), _SLICE):
        size, start = chosen[begin : begin + _SLICE], starts[index[begin : begin + _SLICE]]
        places = np.arange(int(size.sum())) + np.repeat(start - (np.cumsum(size) - size), size)
        gathered[at : at + len(places)] = values[places]
        at += len(places)
    return gathered
