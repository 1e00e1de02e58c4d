"""Answers, and their tokens, by second."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

import numpy as np

from foundation.arrays import Floats
from results.measures.steady_state import StageBlock

THROUGHPUT = ("requests_per_s", "output_tokens_per_s", "total_tokens_per_s")
NONE_INSIDE = (
    "no answer ended inside its window, which is shorter than the latency: this is all answers "
    "over the time from the first arrival to the last end, and no rate that was held"
)


def throughput(blocks: Sequence[StageBlock]) -> dict[str, float]:
    """The rates of what ended inside the blocks' steady windows; NaN without a window.

    Where no answer could end inside: all answers, over the time from the first arrival to the last
    end.
    """
    if not none_ended_inside(blocks):
        seconds = sum(block.window_s for block in blocks)
        counts = [
            float(sum(getattr(b, name) for b in blocks))
            for name in ("completed", "output_tokens", "total_tokens")
        ]
    else:
        answered = [block.requests for block in blocks if block.requests.ok.any()]
        seconds = sum(float(np.nanmax(r.done[r.ok]) - r.scheduled.min()) for r in answered) / 1e3
        counts = [float(sum(r.ok.sum() for r in answered))]
        counts += [
            _sum([r.output_tokens[r.ok] for r in answered]),
            _sum([r.total_tokens[r.ok] for r in answered]),
        ]
    return {
        key: count / seconds if seconds > 0 else nan
        for key, count in zip(THROUGHPUT, counts, strict=True)
    }


def none_ended_inside(blocks: Sequence[StageBlock]) -> bool:
    """Whether there were answers, and all of them ended after the windows."""
    return not any(block.completed for block in blocks) and any(
        block.requests.ok.any() for block in blocks
    )


def _sum(parts: Sequence[Floats]) -> float:
    return float(sum(part.sum() for part in parts))
