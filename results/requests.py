"""The requests of one block as arrays: what a journal holds, turned to milliseconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from results.records import RequestRecord

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Requests:
    """n requests with m content chunks between them. Stamps in ms from the journal's origin.

    NaN where a request did not get so far, or nobody counted; `done` is then the last chunk's. `chunk_of` (m,) is the request
    that each chunk belongs to, in order; `chunk_tokens` its tokens (0 where they were not counted), `chunk_lag` the client's
    lag, NaN unless the clock is the kernel's.
    """

    id: NDArray[np.int64]
    prompt_id: Sequence[str]
    scheduled: Floats
    sent: Floats
    first: Floats
    last: Floats
    done: Floats
    ok: NDArray[np.bool_]
    failure: Sequence[str | None]
    input_tokens: Floats
    output_tokens: Floats
    text: Sequence[str]
    chunk_of: NDArray[np.int64]
    chunk_at: Floats
    chunk_tokens: NDArray[np.int64]
    chunk_lag: Floats

    def __len__(self) -> int:
        return len(self.id)

    def where(self, keep: NDArray[np.bool_]) -> Requests:
        """The requests that `keep` (n,) marks, with their chunks."""
        if keep.all():
            return self
        place = np.cumsum(keep) - 1
        chunks = keep[self.chunk_of]
        return Requests(
            id=self.id[keep],
            prompt_id=list(compress(self.prompt_id, keep)),
            scheduled=self.scheduled[keep],
            sent=self.sent[keep],
            first=self.first[keep],
            last=self.last[keep],
            done=self.done[keep],
            ok=self.ok[keep],
            failure=list(compress(self.failure, keep)),
            input_tokens=self.input_tokens[keep],
            output_tokens=self.output_tokens[keep],
            text=list(compress(self.text, keep)),
            chunk_of=place[self.chunk_of[chunks]],
            chunk_at=self.chunk_at[chunks],
            chunk_tokens=self.chunk_tokens[chunks],
            chunk_lag=self.chunk_lag[chunks],
        )

    @cached_property
    def latency(self) -> Floats:
        """`last - scheduled`."""
        return self.last - self.scheduled

    @cached_property
    def service_latency(self) -> Floats:
        return self.last - self.sent

    @cached_property
    def in_flight(self) -> Floats:
        """`done - sent`: as long as the server has it. The answer's end comes a step or more after its last text."""
        return self.done - self.sent

    @cached_property
    def ttft(self) -> Floats:
        return self.first - self.scheduled

    @cached_property
    def service_ttft(self) -> Floats:
        return self.first - self.sent

    @cached_property
    def tpot(self) -> Floats:
        """`(last - first) / (output_tokens - 1)`, NaN under two tokens."""
        after_first = np.where(self.output_tokens >= 2, self.output_tokens - 1, np.nan)
        return np.asarray((self.last - self.first) / after_first)

    @cached_property
    def slip(self) -> Floats:
        """`sent - scheduled`: how late the client itself was."""
        return self.sent - self.scheduled

    @cached_property
    def total_tokens(self) -> Floats:
        return self.input_tokens + self.output_tokens

    @cached_property
    def itl(self) -> Owned:
        """Gaps between the successive tokens of a request: tokens that came in one chunk have gap 0 after its first."""
        return _gaps(np.repeat(self.chunk_at, self.chunk_tokens), np.repeat(self.chunk_of, self.chunk_tokens))

    @cached_property
    def icl(self) -> Owned:
        """Gaps between the successive chunks of a request."""
        return _gaps(self.chunk_at, self.chunk_of)

    @cached_property
    def client_lag(self) -> Owned:
        known = ~np.isnan(self.chunk_lag)
        return Owned(self.chunk_lag[known], self.chunk_of[known])


@dataclass(frozen=True)
class Owned:
    """Many values a request: `values` (k,) and the index of the request of each."""

    values: Floats
    of: NDArray[np.int64]


def _gaps(at: Floats, of: NDArray[np.int64]) -> Owned:
    within = of[1:] == of[:-1]
    return Owned(np.diff(at)[within], of[1:][within])


def requests_of(records: Iterable[RequestRecord]) -> Requests:
    """Records to arrays, in the order of their ids."""
    records = sorted(records, key=lambda record: record.id)
    chunks = [len(r.chunk_ns) for r in records]
    last, done = _ms([sum(r.chunk_ns) if r.chunk_ns else None for r in records]), _ms([r.done_ns for r in records])
    return Requests(
        id=np.array([r.id for r in records], dtype=np.int64),
        prompt_id=[r.prompt_id for r in records],
        scheduled=_ms([r.scheduled_ns for r in records]),
        sent=_ms([r.sent_ns for r in records]),
        first=_ms([r.chunk_ns[0] if r.chunk_ns else None for r in records]),
        last=last,
        done=np.where(np.isnan(done), last, done),
        ok=np.array([r.failure is None for r in records], dtype=np.bool_),
        failure=[r.failure for r in records],
        input_tokens=_floats([r.input_tokens for r in records]),
        output_tokens=_floats([r.output_tokens for r in records]),
        text=[r.text for r in records],
        chunk_of=np.repeat(np.arange(len(records)), chunks),
        chunk_at=_flat((np.cumsum(np.array(r.chunk_ns, dtype=np.int64)) / 1e6 for r in records), np.float64),
        chunk_tokens=_flat((_chunk_tokens(r) for r in records), np.int64),
        chunk_lag=_flat((_chunk_lag(r) for r in records), np.float64),
    )


def _flat(parts: Iterable[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *parts])


def _chunk_tokens(record: RequestRecord) -> NDArray[np.int64]:
    counted = len(record.chunk_tokens) == len(record.chunk_ns)
    return np.array(record.chunk_tokens if counted else [0] * len(record.chunk_ns), dtype=np.int64)


def _chunk_lag(record: RequestRecord) -> Floats:
    if record.client_lag_ns is None or len(record.client_lag_ns) != len(record.chunk_ns):
        return np.full(len(record.chunk_ns), np.nan)
    return np.array(record.client_lag_ns, dtype=np.float64) / 1e6


def _floats(values: Sequence[int | None]) -> Floats:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _ms(values: Sequence[int | None]) -> Floats:
    return _floats(values) / 1e6
