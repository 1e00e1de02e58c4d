"""The steps in a server's engine record, with the work in each.

The record says how many requests and tokens a step has, not how long their contexts are. These
follow from the requests: an engine gives each of them a token a step until its last one. A step
counts only where the requests add up to what the record says of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foundation.arrays import Flags, Floats, Ints
from foundation.run.engine_records import UNKNOWN
from foundation.run.engine_steps import RecordedRequests, RecordedSteps, ServerRecord
from results.capacity.model.step_sums import count_running, running, summed
from results.capacity.model.steps import Steps

NOT_KNOWN = "of requests that are not all known"
IDLE = "after an idle moment, with an unknown beginning"
_OVERLAPPING = 0.05
"""Of the steps: with more that overlap, the record is of several engines."""
_LATE = 2.0
"""A step whose end comes later than so many times its length did not follow the one before it."""


@dataclass(frozen=True)
class BlockSpan:
    """A block on the server: moments in CLOCK_MONOTONIC ns, and requests/s."""

    origin_ns: int
    end_ns: int
    rate: float


@dataclass(frozen=True)
class Composed:
    """The work in each of s steps, in the words of `StepTime`; `known` (s,): whether it adds up."""

    kv_tokens: Floats
    pairs: Floats
    known: Flags


def recorded_steps(record: ServerRecord, blocks: Sequence[BlockSpan]) -> Steps | str:
    """The steps of these blocks, all of one variant; a str says why there are none."""
    steps = record.steps
    if not len(steps) or not blocks:
        return "the engine record has no steps"
    elapsed = step_durations(steps)
    if isinstance(elapsed, str):
        return elapsed
    origins = np.array([block.origin_ns for block in blocks])
    own = _rows(record.requests, np.isin(record.requests.origin, origins))
    composed = compose(steps, own)
    parts = []
    for block in blocks:
        inside = (steps.ended_ns > block.origin_ns) & (steps.ended_ns <= block.end_ns)
        of_block = own.origin == block.origin_ns
        context = (own.input_tokens + own.output_tokens)[of_block].max(initial=0)
        keep = inside & composed.known & ~np.isnan(elapsed)
        parts.append(
            Steps(
                elapsed=elapsed[keep],
                decodes=steps.generation_requests[keep].astype(np.float64),
                prefill_tokens=steps.context_tokens[keep].astype(np.float64),
                kv_tokens=composed.kv_tokens[keep],
                pairs=composed.pairs[keep],
                ended=steps.ended_ns[keep] / 1e9,
                block=np.zeros(int(keep.sum()), np.int64),
                prompts=steps.context_requests[keep].astype(np.float64),
                context=float(context),
                rate=block.rate,
                left_out={
                    NOT_KNOWN: int((inside & ~composed.known).sum()),
                    IDLE: int((inside & composed.known & np.isnan(elapsed)).sum()),
                },
            )
        )
    return Steps.joined(parts)


def step_durations(steps: RecordedSteps) -> Floats | str:
    """Seconds of each step (s,), NaN where they are not known; a str where steps overlap.

    A busy engine begins a step when it has ended the one before, so the ends' distance is the whole
    step, planning and all. After an idle moment it is the server's own time of the step, and what
    busy steps have beside that.
    """
    timed = steps.elapsed_ns != UNKNOWN
    own = np.where(timed, steps.elapsed_ns, np.nan) / 1e9
    gap = np.append(np.nan, np.diff(steps.ended_ns)) / 1e9
    if timed.any() and np.mean(gap[timed] < own[timed] / _LATE) > _OVERLAPPING:
        return "the steps in the engine record overlap: several engines write it"
    busy = np.append(False, (steps.running + steps.waiting > 0)[:-1])
    both = busy & timed
    beside = max(0.0, float(np.median((gap - own)[both]))) if both.any() else 0.0
    whole = own + beside
    follows = busy & ~(gap > _LATE * whole)
    return np.where(follows, gap, whole)


def compose(steps: RecordedSteps, requests: RecordedRequests) -> Composed:
    """The work that these requests have in each step, where it is all that the step has."""
    # Where the engine does not say it, the work of a step with a preempted request does not fit.
    requests = _rows(requests, (requests.preemptions <= 0) & (requests.output_tokens > 0))
    last = _nearest(steps.ended_ns, requests.finished_ns)
    first = last - requests.output_tokens + 1
    whole = first >= 0  # the record may begin later than a request
    requests, last, first = _rows(requests, whole), last[whole], first[whole]
    decodes = count_running(first + 1, last + 1, len(steps))
    before = requests.input_tokens - first - 1
    place = np.arange(len(steps))
    kv_tokens = running(first + 1, last + 1, before, len(steps))
    kv_tokens += place * decodes
    prompts = _prompts(steps, requests, first)
    surplus = steps.generation_requests - decodes
    # An engine that plans ahead has planned one more step for a request that just ended.
    ended = np.append(0, np.bincount(last, minlength=len(steps))[:-1])
    ahead = np.where(steps.elapsed_ns == UNKNOWN, ended, 0)
    known = (
        (surplus >= 0)
        & (surplus <= ahead)
        & (steps.generation_tokens == steps.generation_requests)
        & (prompts.requests == steps.context_requests)
        & (prompts.tokens == steps.context_tokens)
    )
    share = steps.generation_requests / np.maximum(decodes, 1)
    return Composed(kv_tokens * np.where(decodes > 0, share, 1.0), prompts.pairs, known)


@dataclass(frozen=True)
class _Prompts:
    """Prompts in each of s steps: pieces, tokens, and the sum of p x (c + p / 2)."""

    requests: Floats
    tokens: Floats
    pairs: Floats


def _prompts(steps: RecordedSteps, requests: RecordedRequests, first: Ints) -> _Prompts:
    """Every prompt whole in the step of its first token, or in pieces up to there."""
    cached = np.minimum(requests.cached_tokens, requests.input_tokens)
    size = requests.input_tokens - cached
    tokens = summed(first, size, len(steps))
    in_pieces = (tokens != steps.context_tokens)[first]
    begun = _begun(steps, requests)
    in_pieces &= begun < first
    whole = ~in_pieces
    at = first[whole]
    prompts = _Prompts(
        summed(at, np.ones(len(at)), len(steps)),
        summed(at, size[whole], len(steps)),
        summed(at, (size * (cached + size / 2))[whole], len(steps)),
    )
    rows = np.flatnonzero(in_pieces)
    for row in rows[np.lexsort((first[rows], begun[rows]))].tolist():
        _add_pieces(
            prompts, steps, range(int(begun[row]), int(first[row]) + 1), int(cached[row]),
            int(size[row]),
        )  # fmt: skip
    return prompts


def _add_pieces(
    prompts: _Prompts, steps: RecordedSteps, places: range, context: int, left: int
) -> None:
    """Adds a prompt of `left` tokens after `context`: it takes what each step has left for it."""
    for place in places:
        piece = min(left, int(steps.context_tokens[place] - prompts.tokens[place]))
        if piece > 0:
            prompts.requests[place] += 1
            prompts.tokens[place] += piece
            prompts.pairs[place] += piece * (context + piece / 2)
            context, left = context + piece, left - piece


def _begun(steps: RecordedSteps, requests: RecordedRequests) -> Ints:
    """The step in which each request was first planned (n,): that which began nearest to then."""
    scheduled = requests.finished_ns - requests.decode_ns - requests.prefill_ns
    before = np.append(-(2**62), steps.ended_ns[:-1])
    began = np.where(
        steps.elapsed_ns == UNKNOWN, before, np.maximum(before, steps.ended_ns - steps.elapsed_ns)
    )
    return _nearest(np.maximum.accumulate(began), scheduled)


def _nearest(moments: Ints, wanted: Ints) -> Ints:
    """The place in `moments`, which rise, that is nearest to each of `wanted`."""
    above = np.clip(np.searchsorted(moments, wanted), 1, max(len(moments) - 1, 1))
    below = above - 1
    if len(moments) == 1:
        return np.zeros(len(wanted), np.int64)
    nearer = moments[above] - wanted < wanted - moments[below]
    return np.where(nearer, above, below)


def _rows(requests: RecordedRequests, keep: Flags) -> RecordedRequests:
    return RecordedRequests(
        requests.origin[keep],
        requests.number[keep],
        requests.finished_ns[keep],
        requests.queued_ns[keep],
        requests.prefill_ns[keep],
        requests.decode_ns[keep],
        requests.input_tokens[keep],
        requests.output_tokens[keep],
        requests.cached_tokens[keep],
        requests.preemptions[keep],
    )
