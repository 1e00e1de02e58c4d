"""Bounds to decide a share of requests on, such as the error rate, which hold for bursts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from results.statistics.block_percentiles import worths
from results.statistics.intervals import Bounds, share_bounds


def block_share_bounds(
    counts: Sequence[int], sizes: Sequence[int], low_tail: float, high_tail: float
) -> Bounds:
    """Bounds of a share of all requests: `counts` (k,) of `sizes` (k,) in k blocks.

    They are Clopper and Pearson's exact bounds. Where the blocks' shares spread more than by
    chance, the bounds also hold those of the equivalent number of independent requests (Korn and
    Graubard's, as for percentiles).
    """
    total, n = sum(counts), sum(sizes)
    exact = share_bounds(total, n, low_tail, high_tail)
    share = total / n if n else 0.0
    if len(counts) < 2 or not 0 < share < 1:
        return exact
    blocks, of = np.asarray(counts, float), np.asarray(sizes, float)
    effect = float(np.sum((blocks - share * of) ** 2 / (of * share * (1 - share)))) / (
        len(blocks) - 1
    )
    if effect <= 1:
        return exact
    worth = worths(n, len(blocks), effect, (low_tail, high_tail))
    low, high = (share_bounds(share * each, each, low_tail, high_tail) for each in worth)
    return exact.widest(Bounds(low.low, high.high))
