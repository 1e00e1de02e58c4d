"""Finds records that can't be true, whoever wrote them.

A request is sent before its first chunk comes. The first chunk comes before the last, and the last
before the stream ends. No chunk comes after the block has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from foundation.arrays import Floats
from foundation.run.engine_times import OUTSIDE, TOO_LONG, EngineTimes
from foundation.run.records import ENDS_WELL, MOST_TOKENS
from foundation.run.requests import Requests

# Stamps come from two clocks, the kernel's and CLOCK_MONOTONIC, which are compared once a second.
RESOLUTION_NS = 1_000_000
AFTER_END_NS = 1_000_000_000
LONGEST_NS = 86_400_000_000_000


def impossible_requests(requests: Requests, ended_ns: int) -> list[tuple[int, str]]:
    """The place of each request that can't be true, and the reason, in order of the places.

    `ended_ns`: the end of the block, 0 where it is not known.
    """
    sent, first, last, done = (
        requests.sent_ns,
        requests.first_ns,
        requests.last_ns,
        requests.done_ns,
    )
    end_ns = np.fmax(last, done)
    longest = end_ns - requests.scheduled_ns
    reasons: list[tuple[NDArray[np.bool_], str]] = [
        (first < sent - RESOLUTION_NS, "its first chunk came before it was sent"),
        (done < last - RESOLUTION_NS, "it ended before its last chunk came"),
        (done < sent - RESOLUTION_NS, "it ended before it was sent"),
        (end_ns < requests.scheduled_ns - RESOLUTION_NS, "it ended before it was due"),
        (longest > LONGEST_NS, "it took more than a day"),
        (np.isnan(sent) & ~np.isnan(last), "an answer came to a request that was never sent"),
        (_tokens(requests) > MOST_TOKENS, f"it has more than {MOST_TOKENS:,} tokens"),
    ]
    if ended_ns:
        reasons.append((end_ns > ended_ns + AFTER_END_NS, "it ended after the block had ended"))
    reason_at: dict[int, str] = {}
    for mask, why in reasons:
        for place in np.flatnonzero(mask).tolist():
            reason_at.setdefault(place, why)
    return sorted(reason_at.items())


def _tokens(requests: Requests) -> NDArray[np.float64]:
    columns = [requests.input_tokens, requests.output_tokens, requests.chunks.tokens_of]
    return np.asarray(np.fmax.reduce([np.asarray(column, dtype=np.float64) for column in columns]))


def corrected(requests: Requests) -> Requests:
    """The requests without three errors that servers write.

    An answer that the server broke off has failed. A count of 0 tokens beside a text is no count.
    Times inside the server that can't be true are no times.
    """
    failure: Sequence[str | None] = [
        "aborted" if failure is None and reason not in ENDS_WELL else failure
        for failure, reason in zip(requests.failure, requests.finish_reason, strict=True)
    ]
    uncounted = (requests.output_tokens == 0) & ~requests.silent
    return replace(
        requests,
        failure=failure,
        input_tokens=np.where(
            uncounted & (requests.input_tokens == 0), np.nan, requests.input_tokens
        ),
        engine=possible_times(
            requests.engine,
            requests.done_ns - requests.sent_ns,
            requests.sent_ns,
            requests.done_ns,
        ),
        output_tokens=np.where(uncounted, np.nan, requests.output_tokens),
    )


def possible_times(times: EngineTimes, took: Floats, sent: Floats, done: Floats) -> EngineTimes:
    """The times without those that can't be true.

    `took` (n,) is the longest that all of them together may be, NaN where that is not known. A
    request's moments lie between `sent` and `done`. All in ns.
    """
    inside = times.queued + times.prefill + times.decode
    too_long = inside > np.fmin(took, LONGEST_NS) + RESOLUTION_NS
    outside = (times.finished - inside < sent - RESOLUTION_NS) | (
        times.finished > done + RESOLUTION_NS
    )
    wrong = too_long | outside
    if not wrong.any():
        return times
    source = np.where(too_long, TOO_LONG, np.where(outside, OUTSIDE, times.source))
    return times.without(wrong, source.astype(np.int8))
