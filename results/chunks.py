"""The content chunks of many requests in a few compact arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_SLICE = 1 << 16  # requests that are gathered at a time, so that an index array stays small


@dataclass(frozen=True)
class Owned:
    """Several values a request: `values` (k,) and the index of the request of each."""

    values: Floats
    of: Ints


@dataclass(frozen=True)
class Chunks:
    """What came chunk by chunk for n requests, request after request. Integers in the smallest type that holds them exactly.

    `count` (n,): chunks of each request. `gap_ns`: gaps between the successive chunks of a request, one less than its chunks.
    `tokens`: one number a chunk, 0 where they were not counted. `lags` (n,): how many client lags a request has, all its
    chunks' or none. `lag_ns`: those lags.
    """

    count: Ints
    gap_ns: NDArray[Any]
    tokens: NDArray[Any]
    lags: Ints
    lag_ns: NDArray[Any]

    @cached_property
    def gaps(self) -> Ints:
        """(n,): gaps of each request."""
        return np.maximum(self.count - 1, 0)

    @cached_property
    def tokens_of(self) -> Ints:
        """(n,): tokens of each request by its chunks."""
        return sums(self.tokens, self.count)

    @cached_property
    def icl(self) -> Owned:
        """Gaps between the successive chunks of a request, ms."""
        return Owned(self.gap_ns / 1e6, np.repeat(np.arange(len(self.count)), self.gaps))

    @cached_property
    def itl(self) -> Owned:
        """Gaps between the successive tokens of a request, ms: tokens that came in one chunk have gap 0 after its first."""
        of = np.repeat(np.arange(len(self.count)), self.count)
        at_ns = np.zeros(len(of), np.int64)
        at_ns[_not_first(self.count)] = self.gap_ns
        at_ns = np.cumsum(at_ns)
        tokens = self.tokens.astype(np.int64)
        by_token, owner = np.repeat(at_ns, tokens), np.repeat(of, tokens)
        within = owner[1:] == owner[:-1]
        return Owned(np.diff(by_token)[within] / 1e6, owner[1:][within])

    @cached_property
    def lag(self) -> Owned:
        """The client's lag at each chunk that has one, ms."""
        return Owned(self.lag_ns / 1e6, np.repeat(np.arange(len(self.lags)), self.lags))

    def take(self, index: Ints) -> Chunks:
        """The chunks of the requests at `index`, in that order."""
        return Chunks(
            count=self.count[index],
            gap_ns=_gather(self.gap_ns, self.gaps, index),
            tokens=_gather(self.tokens, self.count, index),
            lags=self.lags[index],
            lag_ns=_gather(self.lag_ns, self.lags, index),
        )


def chunks_of(count: Ints, chunk_ns: Ints, tokens: Ints, lags: Ints, lag_ns: Ints) -> Chunks:
    """Chunks from a journal's numbers: `chunk_ns` and `tokens` one a chunk, the first stamp of each request from the origin."""
    return Chunks(count, compact(chunk_ns[_not_first(count)]), compact(tokens), lags, compact(lag_ns))


def joined(parts: Sequence[Chunks]) -> Chunks:
    """The chunks of several lots of requests, one lot after the other."""
    columns = [
        np.concatenate([getattr(part, name) for part in parts]) for name in ("count", "gap_ns", "tokens", "lags", "lag_ns")
    ]
    return Chunks(*columns)


def compact(values: Ints) -> NDArray[Any]:
    """The same integers in 1 or 4 bytes where all of them fit."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    for dtype in (np.uint8, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return values.astype(dtype)
    return values


def sums(values: NDArray[Any], counts: Ints) -> Ints:
    """(n,): exact sums of the first counts[0] values, of the next counts[1], and so on."""
    total = np.zeros(len(counts), np.int64)
    filled = counts > 0
    if filled.any():
        starts = (np.cumsum(counts) - counts)[filled]
        total[filled] = np.add.reduceat(values, starts, dtype=np.int64)
    return total


def _not_first(count: Ints) -> NDArray[np.bool_]:
    """For every chunk whether one of the same request came before it."""
    later = np.ones(int(count.sum()), np.bool_)
    later[(np.cumsum(count) - count)[count > 0]] = False
    return later


def _gather(values: NDArray[Any], counts: Ints, index: Ints) -> NDArray[Any]:
    """The values of the requests at `index`, where request i has counts[i] of them."""
    starts, chosen = np.cumsum(counts) - counts, counts[index]
    gathered = np.empty(int(chosen.sum()), values.dtype)
    at = 0
    for begin in range(0, len(index), _SLICE):
        size, start = chosen[begin : begin + _SLICE], starts[index[begin : begin + _SLICE]]
        places = np.arange(int(size.sum())) + np.repeat(start - (np.cumsum(size) - size), size)
        gathered[at : at + len(places)] = values[places]
        at += len(places)
    return gathered
