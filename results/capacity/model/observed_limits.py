"""The limit of a scheduler as closed loops show it, where the server does not say it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from results.capacity.model.steps import Steps

ABOVE = 1.25
"""A loop shows a limit if it has so many times as many requests in flight as the limit."""
OFTEN = 0.5
"""The share of its steps that are at the limit. A full KV cache gives no such constant number."""


@dataclass(frozen=True)
class ClosedLoop:
    """A block of `in_flight` requests, and its steps."""

    in_flight: int
    steps: Steps


def observed_seqs(loops: Iterable[ClosedLoop]) -> int | None:
    """The most requests in a step (`max_num_seqs`); None where no loop shows that as a limit."""
    loops = [loop for loop in loops if len(loop.steps)]
    most = max((float(loop.steps.requests.max()) for loop in loops), default=0.0)
    for loop in loops:
        if loop.in_flight >= ABOVE * most and np.mean(loop.steps.requests == most) >= OFTEN:
            return int(most)
    return None
