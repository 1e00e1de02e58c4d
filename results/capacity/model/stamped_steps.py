"""The steps of an engine as the kernel's receive stamps show them, without a word of the server.

A step gives every request in it a token at once, so the tokens of a step arrive together, and the
time between two tokens of a request is that of a step. A chunk says how many tokens it carries. A
step counts only where the chunks around it fit: a token a step for each request.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foundation.arrays import Flags, Floats, Ints
from foundation.run.journal import Journal
from foundation.run.requests import Requests
from results.capacity.model.step_sums import count_running, running, summed
from results.capacity.model.steps import Steps

UNFIT = "whose tokens do not fit steps of one engine"
IN_PIECES = "that may compute part of a prompt"
FEWEST = 0.5
"""Of the steps must fit, else the tokens come from no single engine."""
_APART = 0.3
"""Of a step's time: arrivals that are further apart are of two steps."""
_FRONT = 5.0
"""The percentile of the times before a step that a request spends outside the engine alone."""
_MOST_FRONT_NS = 20e6


@dataclass(frozen=True)
class _Arrivals:
    """c content chunks in the order of their arrival, and the step (from 0) of each.

    `request` (c,): its request. `at` (c,): ns. `tokens` (c,). `gap`, `back` (c,): ns and steps
    since the chunk before it of its request, NaN for the first.
    """

    request: Ints
    at: Ints
    tokens: Ints
    gap: Floats
    back: Floats
    step: Ints


@dataclass(frozen=True)
class _Places:
    """The steps of n requests: of the first token, in which the prompt ends, and of the last.

    `lost` (n,): the prompt's length is not known, or its step is none that can be seen.
    """

    first: Ints
    last: Ints
    lost: Flags


def stamped_steps(journal: Journal, rate: float) -> Steps | str:
    """The steps of a block at `rate` requests/s; a str says why there are none."""
    if journal.header.clock != "kernel":
        return "the kernel did not stamp the arrivals (a proxy, TLS or another transport)"
    requests = journal.requests.where(journal.requests.chunks.count > 0)
    if not len(requests):
        return "no answer has text"
    arrivals = _arrivals(requests)
    size = int(arrivals.step[-1]) + 1
    began = _first_of_each(arrivals.at, arrivals.step, size)
    places = _places(requests, arrivals, began)
    decodes, kv_tokens = _decoding(requests, places, size)
    prefill, pairs = _prompts(requests, places, size)
    unfit = _unfit(arrivals, size)
    seconds = _seconds(arrivals, size)
    timed = ~np.isnan(seconds)
    if np.mean(unfit[timed]) > 1 - FEWEST if timed.any() else True:
        return "the tokens do not arrive in steps of one engine"
    doubtful = _doubtful(journal.requests, requests, places, began, decodes)
    keep = timed & ~unfit & ~doubtful
    total = requests.input_tokens + requests.output_tokens
    return Steps(
        elapsed=seconds[keep],
        decodes=decodes[keep],
        prefill_tokens=prefill[keep],
        kv_tokens=kv_tokens[keep],
        pairs=pairs[keep],
        ended=(journal.header.origin_monotonic_ns + began[keep]) / 1e9,
        block=np.zeros(int(keep.sum()), np.int64),
        prompts=summed(places.first, np.ones(len(requests)), size)[keep],
        context=float(np.nanmax(total)) if not np.isnan(total).all() else 0.0,
        rate=rate,
        left_out={
            UNFIT: int((timed & unfit).sum()),
            IN_PIECES: int((timed & ~unfit & doubtful).sum()),
        },
    )


def waits_for_step(requests: Requests) -> Floats:
    """How long each request (n,) was sent before the step of its first token began, s.

    The front end takes no more than that. NaN where no step before that one shows its beginning.
    """
    waits = np.full(len(requests), np.nan)
    rows = np.flatnonzero(requests.chunks.count > 0)
    if len(rows):
        answered = requests.take(rows)
        arrivals = _arrivals(answered)
        began = _first_of_each(arrivals.at, arrivals.step, int(arrivals.step[-1]) + 1)
        places = _places(answered, arrivals, began)
        wait = _before_step(answered, places, began)
        waits[rows] = np.where((wait > 0) & ~places.lost, wait, np.nan) / 1e9
    return waits


def _before_step(requests: Requests, places: _Places, began: Ints) -> Floats:
    """From the sending of each request (n,) to the end of the step before that of its prompt, ns.

    Below 0: the engine was at rest in between.
    """
    return np.asarray(np.append(-np.inf, began[:-1])[places.first] - requests.sent_ns)


def _arrivals(requests: Requests) -> _Arrivals:
    """The chunks, divided into steps where the next is far from the one before it."""
    chunks = requests.chunks
    request = np.repeat(np.arange(len(requests)), chunks.count)
    is_first = np.append(True, np.diff(request) > 0)
    way = np.zeros(len(request), np.int64)
    way[~is_first] = chunks.gap_ns
    way = np.cumsum(way)
    at = way - way[is_first][request] + requests.first_ns.astype(np.int64)[request]
    gap = np.where(is_first, np.nan, np.append(np.nan, np.diff(at)))
    tokens = np.maximum(chunks.tokens.astype(np.int64), 1)
    order = np.argsort(at, kind="stable")
    apart = np.append(np.inf, np.diff(at[order])) > _APART * _usual((gap / tokens)[order])
    apart[0] = True  # also where no answer has a second chunk, which would tell what is usual
    # No step that ended before a request was sent can be the step of its first token.
    sent = np.where(is_first, requests.sent_ns[request], -np.inf)[order]
    apart[1:] |= at[order][:-1] < sent[1:]
    step = np.empty(len(at), np.int64)
    step[order] = np.cumsum(apart) - 1
    back = np.where(is_first, np.nan, np.append(np.nan, np.diff(step)))
    return _Arrivals(request[order], at[order], tokens[order], gap[order], back[order], step[order])


def _usual(gap: Floats) -> Floats:
    """The time of a step at each arrival (c,), ns: its `gap`, else the shorter one beside it."""
    place = np.arange(len(gap))
    before = np.maximum.accumulate(np.where(np.isnan(gap), -1, place))
    after = np.minimum.accumulate(np.where(np.isnan(gap), len(gap), place)[::-1])[::-1]
    padded = np.append(gap, np.inf)  # place -1 and the place after the last are of no arrival
    return np.asarray(np.fmin(padded[before], padded[after]))


def _first_of_each(at: Ints, step: Ints, size: int) -> Ints:
    """When the first chunk of each step arrives, ns."""
    return at[np.searchsorted(step, np.arange(size))]


def _places(requests: Requests, arrivals: _Arrivals, began: Ints) -> _Places:
    """Tokens that came later than they were made, or never as text, are in steps of their own."""
    n = len(requests)
    is_first = np.isnan(arrivals.gap)
    seen, first, last = (np.zeros(n, np.int64) for _ in range(3))
    owner = arrivals.request[is_first]
    seen[owner] = arrivals.step[is_first]
    first[owner] = arrivals.step[is_first] - arrivals.tokens[is_first] + 1
    np.maximum.at(last, arrivals.request, arrivals.step)
    silent = requests.output_tokens - np.bincount(arrivals.request, arrivals.tokens, n)
    silent = np.maximum(np.nan_to_num(silent), 0).astype(np.int64)
    ended = np.where(np.isnan(requests.done_ns), requests.last_ns, requests.done_ns)
    # The end of an answer comes with the tokens of its last step, maybe before them.
    at_end = np.searchsorted(began[1:] - np.diff(began) / 2, ended)
    too_early = began[np.maximum(first, 0)] < requests.sent_ns
    lost = (first < 0) | too_early | np.isnan(requests.input_tokens)
    first = np.where(lost, seen, first)
    return _Places(first, np.maximum(np.minimum(last + silent, at_end), last), lost)


def _decoding(requests: Requests, places: _Places, size: int) -> tuple[Floats, Floats]:
    """D and K of each step, (size,)."""
    begin, end = places.first + 1, places.last + 1
    decodes = count_running(begin, end, size)
    before = np.nan_to_num(requests.input_tokens) - places.first - 1
    return decodes, running(begin, end, before, size) + np.arange(size) * decodes


def _prompts(requests: Requests, places: _Places, size: int) -> tuple[Floats, Floats]:
    """P and A of each step (size,), every prompt in one step."""
    known = np.nan_to_num(requests.input_tokens)
    cached = np.minimum(np.nan_to_num(requests.cached_tokens), known)
    tokens = known - cached
    pairs = tokens * (cached + tokens / 2)
    return summed(places.first, tokens, size), summed(places.first, pairs, size)


def _unfit(arrivals: _Arrivals, size: int) -> Flags:
    """The steps (size,) around a chunk that has not as many tokens as steps have passed."""
    wrong = (arrivals.back != arrivals.tokens) & ~np.isnan(arrivals.back)
    end = arrivals.step[wrong]
    steps = np.maximum(arrivals.back[wrong].astype(np.int64), arrivals.tokens[wrong])
    return _covered(np.maximum(end - steps + 1, 0), end, size)


def _covered(begin: Ints, end: Ints, size: int) -> Flags:
    """The steps (size,) that are in one of the spans from `begin` to `end`, both included."""
    return np.asarray(count_running(begin, end + 1, size) > 0)


def _seconds(arrivals: _Arrivals, size: int) -> Floats:
    """The time of each step (size,): the mean over requests that have a token in it and before."""
    next_to = arrivals.back == 1
    count = np.bincount(arrivals.step[next_to], minlength=size)
    total = np.bincount(arrivals.step[next_to], arrivals.gap[next_to], size)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan) / 1e9


def _doubtful(
    everything: Requests, requests: Requests, places: _Places, began: Ints, decodes: Floats
) -> Flags:
    """The steps (size,) in which a prompt may be computed whose step is not known.

    A request that waits a whole step with room for it waits for its own prompt, or that of others,
    which is computed in pieces. What an answer without text does is not known at all.
    """
    size = len(began)
    first = places.first
    before = _before_step(requests, places, began)
    known = before[before > 0]
    front = min(float(np.percentile(known, _FRONT)), _MOST_FRONT_NS) if len(known) else 0.0
    could_begin = np.minimum(np.searchsorted(began, requests.sent_ns + front) + 1, first)
    running = decodes + np.bincount(first, minlength=size)
    is_full = np.append(0, np.cumsum(running >= running.max()))
    waits = is_full[first] - is_full[could_begin] < first - could_begin
    silent = everything.where((everything.chunks.count == 0) & ~np.isnan(everything.sent_ns))
    ended = np.where(np.isnan(silent.done_ns), np.inf, silent.done_ns)
    could_begin[places.lost] = np.searchsorted(began, requests.sent_ns[places.lost])
    spans = waits | places.lost
    begin = np.append(could_begin[spans], np.searchsorted(began, silent.sent_ns))
    until = np.where(places.lost, places.last, first)
    end = np.append(until[spans], np.minimum(np.searchsorted(began, ended), size - 1))
    return _covered(np.minimum(begin, end), end, size)
