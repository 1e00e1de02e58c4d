"""When a server's engine worked on each request: its engine record, or the metrics in its answers.

An answer's `metrics` are vLLM's: `queue_time_ms` runs from the engine's queue to its first step,
`time_to_first_token_ms` from there to the first token, so it is no TTFT, and `generation_time_ms`
from there to the last token (vLLM 0.32, `build_per_request_timing_metrics`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from foundation.arrays import Flags, Floats, Ints

NOBODY, RESPONSE_METRICS, TRACES, ENGINE_RECORD = range(4)
"""Who timed a request inside the server."""
TOO_LONG, OUTSIDE = -1, -2
"""Why a request's times are left out: they add up to more than the request took, or some of them
lie before it was sent or after it had ended.
"""
_NULL = b"null"


@dataclass(frozen=True)
class EngineTimes:
    """The times of n requests inside the server, in ns, NaN where nobody timed them.

    `queued`: from the engine's queue to its first step. `prefill`: from there to the first token.
    `decode`: from there to the last token. `finished`: the moment of the last token, from the
    journal's origin; NaN where only durations are known. `source`: who timed each request, or why
    its times are left out.
    """

    queued: Floats
    prefill: Floats
    decode: Floats
    finished: Floats
    source: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.source)

    def take(self, place: Ints | slice) -> EngineTimes:
        """The times at `place`, in that order."""
        return EngineTimes(
            self.queued[place],
            self.prefill[place],
            self.decode[place],
            self.finished[place],
            self.source[place],
        )

    def without(self, wrong: Flags, source: NDArray[np.int8]) -> EngineTimes:
        """No times for the requests in the mask `wrong` (n,); `source` (n,) says why."""
        return EngineTimes(
            np.where(wrong, nan, self.queued),
            np.where(wrong, nan, self.prefill),
            np.where(wrong, nan, self.decode),
            np.where(wrong, nan, self.finished),
            source,
        )

    @staticmethod
    def joined(parts: Sequence[EngineTimes]) -> EngineTimes:
        """The times of several groups of requests, one group after another."""
        return EngineTimes(
            np.concatenate([part.queued for part in parts]),
            np.concatenate([part.prefill for part in parts]),
            np.concatenate([part.decode for part in parts]),
            np.concatenate([part.finished for part in parts]),
            np.concatenate([part.source for part in parts]),
        )

    @staticmethod
    def unknown(n: int) -> EngineTimes:
        """The times of n requests that nobody timed."""
        queued, prefill, decode, finished = np.full((4, n), nan)
        return EngineTimes(queued, prefill, decode, finished, np.zeros(n, np.int8))


class _Durations(msgspec.Struct, gc=False):
    """Durations in an answer's metrics, ms."""

    queue_time_ms: float | None = None
    time_to_first_token_ms: float | None = None
    generation_time_ms: float | None = None


_durations = msgspec.json.Decoder(_Durations)


def of_response_metrics(metrics: Sequence[msgspec.Raw | Mapping[str, Any] | None]) -> EngineTimes:
    """The times in the `server_metrics` of n records, as JSON text or decoded.

    A request counts as timed where all three are there: numbers that are no less than zero.
    """
    times = EngineTimes.unknown(len(metrics))
    for place, each in enumerate(metrics):
        if each is None or (isinstance(each, msgspec.Raw) and bytes(each) == _NULL):
            continue
        if (ms := _milliseconds(each)) is not None:
            times.queued[place], times.prefill[place], times.decode[place] = (
                value * 1e6 for value in ms
            )
            times.source[place] = RESPONSE_METRICS
    return times


def _milliseconds(metrics: msgspec.Raw | Mapping[str, Any]) -> tuple[float, float, float] | None:
    """Queued, prefill and decode of one request; None where they are not vLLM's."""
    try:
        if isinstance(metrics, msgspec.Raw):
            durations = _durations.decode(metrics)
        else:
            durations = msgspec.convert(metrics, _Durations)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    queued, prefill, decode = (
        durations.queue_time_ms,
        durations.time_to_first_token_ms,
        durations.generation_time_ms,
    )
    if queued is None or prefill is None or decode is None:
        return None
    whole = isfinite(queued + prefill + decode) and min(queued, prefill, decode) >= 0
    return (queued, prefill, decode) if whole else None
