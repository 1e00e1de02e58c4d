"""Counted shares of requests: how many count against a share, and of how many."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from foundation.run.requests import Requests
from results.measures.steady_state import StageData

ANSWER_SHARES: dict[str, Callable[[Requests], NDArray[np.bool_]]] = {
    "empty_rate": lambda requests: requests.empty,
    "length_share": lambda requests: requests.cut_short,
}
"""The shares of the answers; any other share is of all requests."""


def share_counts(metric: str, stage: StageData) -> tuple[int, int]:
    """`counts_of` over all blocks of a stage."""
    counts = [counts_of(metric, block.requests) for block in stage.blocks]
    return sum(count for count, _ in counts), sum(n for _, n in counts)


def counts_of(metric: str, requests: Requests) -> tuple[int, int]:
    """How many requests count against a share ("error_rate", ...), and of how many."""
    if metric == "error_rate":
        return int((~requests.ok).sum()), len(requests)
    return int(ANSWER_SHARES[metric](requests).sum()), int(requests.ok.sum())
