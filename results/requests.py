"""The requests of one block as arrays: what a journal holds, turned to milliseconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from results.records import RequestRecord

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Requests:
    """n requests. Stamps in ms from the journal's origin; NaN where the request did not get so far, or nobody counted.

    `gaps[i]` are the gaps between the chunks of request i (one fewer than chunks), `chunk_tokens[i]` the tokens of each chunk,
    `lag[i]` the client's lag on each, empty where the clock is not the kernel's.
    """

    id: NDArray[np.int64]
    prompt_id: Sequence[str]
    scheduled: Floats
    sent: Floats
    first: Floats
    last: Floats
    ok: NDArray[np.bool_]
    failure: Sequence[str | None]
    input_tokens: Floats
    output_tokens: Floats
    text: Sequence[str]
    gaps: Sequence[Floats]
    chunk_tokens: Sequence[Sequence[int]]
    lag: Sequence[Floats]

    def __len__(self) -> int:
        return len(self.id)

    @cached_property
    def latency(self) -> Floats:
        """`last - scheduled`."""
        return self.last - self.scheduled

    @cached_property
    def service_latency(self) -> Floats:
        return self.last - self.sent

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

    def itl(self, i: int) -> Floats:
        """Gaps between the successive tokens of request i: tokens that came in one chunk have gap 0 after its first."""
        tokens = np.asarray(self.chunk_tokens[i], dtype=np.int64)
        if len(tokens) != len(self.gaps[i]) + 1:
            return np.empty(0)
        arrivals = np.concatenate(([0.0], np.cumsum(self.gaps[i])))
        return np.diff(np.repeat(arrivals, tokens))


def requests_of(records: Iterable[RequestRecord]) -> Requests:
    """Records to arrays, in the order of their ids."""
    records = sorted(records, key=lambda record: record.id)
    return Requests(
        id=np.array([r.id for r in records], dtype=np.int64),
        prompt_id=[r.prompt_id for r in records],
        scheduled=_ms([r.scheduled_ns for r in records]),
        sent=_ms([r.sent_ns for r in records]),
        first=_ms([r.chunk_ns[0] if r.chunk_ns else None for r in records]),
        last=_ms([sum(r.chunk_ns) if r.chunk_ns else None for r in records]),
        ok=np.array([r.failure is None for r in records], dtype=np.bool_),
        failure=[r.failure for r in records],
        input_tokens=_floats([r.input_tokens for r in records]),
        output_tokens=_floats([r.output_tokens for r in records]),
        text=[r.text for r in records],
        gaps=[np.array(r.chunk_ns[1:], dtype=np.float64) / 1e6 for r in records],
        chunk_tokens=[r.chunk_tokens for r in records],
        lag=[np.array(r.client_lag_ns or (), dtype=np.float64) / 1e6 for r in records],
    )


def _floats(values: Sequence[int | None]) -> Floats:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _ms(values: Sequence[int | None]) -> Floats:
    return _floats(values) / 1e6
