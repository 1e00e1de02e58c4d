"""Whether TPOT, ITL and times inside the server are known.

Many tokens at one stamp say nothing of the times between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from foundation.run.requests import Requests


def at_once(requests: Requests) -> NDArray[np.bool_]:
    """Answers (n,) whose several tokens came at one time, so that they have no time per token."""
    return np.asarray((requests.output_tokens >= 2) & (requests.last == requests.first), np.bool_)


def _uncounted(requests: Requests) -> NDArray[np.bool_]:
    return np.isnan(requests.output_tokens)


def miscounted(requests: Requests) -> NDArray[np.bool_]:
    """Answers (n,) whose chunks carried another number of tokens than was counted.

    An end token is in no chunk.
    """
    lacking = requests.output_tokens - requests.chunks.tokens_of
    return np.asarray((lacking < 0) | (lacking > 1 + 0.1 * requests.output_tokens), np.bool_)


def _untimed(requests: Requests) -> NDArray[np.bool_]:
    return np.isnan(requests.queue)


def _without_moment(requests: Requests) -> NDArray[np.bool_]:
    return np.isnan(requests.wait)


_UNTIMED = (
    _untimed,
    "have no times inside the server, from its engine record, traces or metrics in the answer",
)
_DOUBTS: dict[str, Sequence[tuple[Callable[[Requests], NDArray[np.bool_]], str]]] = {
    "tpot": (
        (_uncounted, "have no token count"),
        (at_once, "came all at once, so that no time per token can be had"),
    ),
    "itl": (
        (_uncounted, "have no token count"),
        (at_once, "came all at once, so that no time between tokens can be had"),
        (
            miscounted,
            "came in chunks that carried another number of tokens than the server counted",
        ),
    ),
    "queue": (_UNTIMED,),
    "prefill": (_UNTIMED,),
    "wait": (
        _UNTIMED,
        (
            _without_moment,
            "have durations inside the server but no moment, so that the wait before its queue "
            "is not known",
        ),
    ),
}
MAY_BE_UNMEASURED = tuple(_DOUBTS)
"""The times that an answer may not have."""


def unmeasured(name: str, steady: Sequence[Requests], share: float) -> str | None:
    """Why more than a share of the answers lacks a time; None if no more do."""
    answered = [r.ok & ~np.isnan(r.last) for r in steady]
    n = sum(int(some.sum()) for some in answered)
    for doubt, words in _DOUBTS.get(name, ()):
        count = sum(int((doubt(r) & some).sum()) for r, some in zip(steady, answered, strict=True))
        if count > share * n:
            return f"{count:,} of {n:,} answers {words}"
    return None
