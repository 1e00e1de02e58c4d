"""What a server adds around its engine, from requests that came to an engine at rest.

A request that comes while a step is under way waits for its end, and that wait is the engine's. So
only requests that are alone show what the server itself takes. Where there are few of them, the
shortest waits of the others are an upper bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foundation.arrays import Flags, Floats, Ints
from foundation.run.requests import Requests
from results.capacity.model.engine_model import FrontEnd, StepTime
from results.capacity.model.nonnegative import NormalEquations
from results.capacity.model.stamped_steps import waits_for_step
from results.measures.doubt import some

FEWEST_ALONE = 5
"""Requests that came to an engine at rest; with fewer the front end is an upper bound."""
FEWEST_FOR_LINE = 20
"""With fewer of them a token of the prompt takes no time of its own."""
_SHORTEST = 5.0
"""The percentile of the waits of other requests that stands for those alone."""
_FAR = 8.0
"""A wait is left out if it is so many standard deviations from the others."""


@dataclass(frozen=True)
class FrontEndFit:
    """A front end, and what a reader must know of it."""

    front: FrontEnd
    notes: tuple[str, ...] = ()


def recorded_front_end(blocks: Sequence[Requests]) -> FrontEndFit:
    """From the times inside the server: before the queue, and from the first token to the client.

    Both are measured. Where no request has them the front end takes no time, with a note.
    """
    wait = np.concatenate([block.wait for block in blocks]) / 1e3
    tokens = np.concatenate([block.input_tokens for block in blocks])
    alone = np.concatenate([comes_alone(block) for block in blocks])
    first = np.concatenate([_after_first_step(block) for block in blocks])
    way_back = max(0.0, float(np.nanmedian(first))) if not np.isnan(first).all() else 0.0
    return _fit(wait, wait, tokens, alone, way_back)


def stamped_front_end(blocks: Sequence[Requests], steps: StepTime) -> FrontEndFit:
    """From the time to the first token of requests that came alone, less that of their step.

    The way back to the client is in it, so a token takes no more time on its own.
    """
    tokens = np.concatenate([block.input_tokens for block in blocks])
    cached = np.concatenate([np.nan_to_num(block.cached_tokens) for block in blocks])
    computed = np.maximum(tokens - cached, 0.0)
    nothing = np.zeros(len(tokens))
    pairs = computed * (cached + computed / 2)
    work = np.column_stack([np.ones(len(tokens)), nothing, computed, nothing, pairs])
    first = np.concatenate([block.service_ttft for block in blocks]) / 1e3
    alone = np.concatenate([comes_alone(block) for block in blocks])
    waits = np.concatenate([waits_for_step(block) for block in blocks])
    return _fit(first - steps.seconds(work), waits, tokens, alone, 0.0)


def comes_alone(requests: Requests) -> Flags:
    """Whether no other request of the block was in the server until the first token of each, (n,).

    One that is sent the moment that the last one ended comes alone.
    """
    sent, done = requests.sent_ns, np.fmax(requests.done_ns, requests.last_ns)
    order = np.argsort(sent, kind="stable")  # NaN last
    busy_until = np.fmax.accumulate(np.where(np.isnan(done), np.inf, done)[order])
    alone = np.zeros(len(sent), np.bool_)
    alone[order] = np.append(-np.inf, busy_until[:-1]) <= sent[order]
    next_sent = np.full(len(sent), np.inf)
    next_sent[order[:-1]] = sent[order][1:]
    return np.asarray(
        alone & (np.where(np.isnan(next_sent), np.inf, next_sent) >= requests.first_ns)
    )


def _after_first_step(requests: Requests) -> Floats:
    """From the end of the step with the first token to its arrival, s, (n,)."""
    engine = requests.engine
    return np.asarray((requests.first_ns - engine.finished + engine.decode) / 1e9)


def _fit(
    taken: Floats, waits: Floats, tokens: Floats, alone: Flags, way_back: float
) -> FrontEndFit:
    """`taken` (n,): s that the front end took of requests that came alone. `tokens` (n,): of the
    prompt. `waits` (n,): s, at least what it took, of any request.
    """
    rows = np.flatnonzero(~np.isnan(taken + tokens) & alone)
    if len(rows) >= FEWEST_FOR_LINE:
        return FrontEndFit(FrontEnd(*_line(taken, tokens, rows), way_back))
    if len(rows) >= FEWEST_ALONE:
        return FrontEndFit(FrontEnd(max(0.0, float(np.median(taken[rows]))), 0.0, way_back))
    waits = waits[~np.isnan(waits)]
    if not len(waits):
        words = "nothing shows what the server takes around the engine: it counts as no time"
        return FrontEndFit(FrontEnd(0.0, 0.0, way_back), (words,))
    bound = max(0.0, float(np.percentile(waits, _SHORTEST)))
    words = (
        f"{some(len(rows), 'request')} came to an engine at rest: the time before the queue is the "
        f"{_SHORTEST:g}th percentile of all waits, and so an upper bound"
    )
    return FrontEndFit(FrontEnd(bound, 0.0, way_back), (words,))


def _line(wait: Floats, tokens: Floats, rows: Ints) -> tuple[float, float]:
    """The time of a request and of a token of its prompt, without waits that are far off."""
    per_request, per_token = 0.0, 0.0
    for _ in range(3):
        design = np.column_stack([np.ones(len(rows)), tokens[rows]])
        one = np.zeros(len(rows), np.int64)
        per_request, per_token = NormalEquations.of(design, wait[rows], one).solved()[0].tolist()
        error = wait - per_request - per_token * tokens
        centre = np.median(error[rows])
        deviation = 1.4826 * np.median(np.abs(error[rows] - centre))
        near = np.abs(error[rows] - centre) <= max(_FAR * deviation, 1e-4)
        rows = rows[near]
    return per_request, per_token
