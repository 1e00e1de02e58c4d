"""What a rate counts in each block, and of how many requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from foundation.arrays import Floats
from results.measures.steady_state import StageBlock
from results.measures.values import Limits, met
from results.statistics.block_rates import BlockRates

_COUNTS: dict[str, Callable[[StageBlock], float]] = {
    "requests_per_s": lambda block: block.completed,
    "output_tokens_per_s": lambda block: block.output_tokens,
    "total_tokens_per_s": lambda block: block.total_tokens,
}


def rates_of(metric: str, blocks: Sequence[StageBlock], limits: Limits) -> BlockRates:
    """The counts behind a rate of `slo`, of the blocks that have a window. `limits`: of goodput."""
    timed = [block for block in blocks if block.window_s > 0]
    seconds = _array(block.window_s for block in timed)
    if metric == "goodput":
        good = _array(met(block.steady, limits).sum() for block in timed)
        return BlockRates(good, seconds, _array(len(block.steady) for block in timed))
    counts = _array(_COUNTS[metric](block) for block in timed)
    ended = _array(block.ended for block in timed)
    return BlockRates(counts, seconds, ended if metric == "requests_per_s" else None)


def _array(numbers: Iterable[float]) -> Floats:
    return np.array(list(numbers), np.float64)
