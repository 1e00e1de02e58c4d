"""Shares of requests, counted: how many count against a share, and of how many."""

from __future__ import annotations

from foundation.run.requests import Requests
from results.measures.metrics import ANSWER_SHARES
from results.measures.steady_state import StageData


def share_counts(metric: str, stage: StageData) -> tuple[int, int]:
    """How many requests count against a share, and of how many."""
    counts = [counts_of(metric, block.requests) for block in stage.blocks]
    return sum(count for count, _ in counts), sum(n for _, n in counts)


def counts_of(metric: str, requests: Requests) -> tuple[int, int]:
    """How many of some requests count against a share, and of how many."""
    if metric == "error_rate":
        return int((~requests.ok).sum()), len(requests)
    return int(ANSWER_SHARES[metric](requests).sum()), int(requests.ok.sum())
