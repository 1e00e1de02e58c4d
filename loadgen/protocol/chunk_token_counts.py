"""How many tokens each content chunk carried.

Servers send token counts beside the chunks. This module decides which of them are credible.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
from operator import sub

from foundation.run.records import MOST_TOKENS


def is_count(value: int | None) -> bool:
    """Whether a number can be a count of tokens."""
    return value is not None and 0 <= value <= MOST_TOKENS


def tokens_of_chunks(
    usage_counts: Sequence[int | None], total: int | None
) -> tuple[list[int], bool]:
    """The tokens of each chunk, never negative, and whether the counts agree.

    `usage_counts`: the count in the usage beside each chunk, None or 0 where there is none. A chunk
    of content has a token. The counts must agree with one another and with the `total`. Most
    servers that send counts give a running count; some give each chunk's own. Where the counts can
    be neither, each chunk is one token.
    """
    if not any(usage_counts):
        return [1] * len(usage_counts), True
    counts = (
        list(filter(None, usage_counts))
        if all(usage_counts)
        else [count or 0 for count in usage_counts]
    )
    running = list(map(sub, counts, chain((0,), counts)))
    if min(running) > 0:  # the usual case, and the cheapest
        sum_of_steps = largest = counts[-1]
    else:
        running = _steps(counts)
        sum_of_steps, largest = sum(running), max(counts)
    if running and is_count(largest) and (total is None or sum_of_steps <= total):
        hidden = 0 if total is None else total - counts[-1]
        if hidden < 2 or not _own(counts, total):
            return running, True
    if _own(counts, total):
        return counts, True
    return [1] * len(counts), False


def _own(counts: Sequence[int], total: int | None) -> bool:
    """Whether the counts are each chunk's own.

    Then they add up to the total, or to one less, because the end token has no text.
    """
    return total is not None and min(counts) > 0 and total - 1 <= sum(counts) <= total


def _steps(counts: Sequence[int]) -> list[int]:
    """The differences of a running count. A chunk without a count is one token.

    Empty where the count falls, or mostly stays the same.
    """
    steps, total = [], 0
    for count in counts:
        steps.append(count - total if count else 1)
        total += steps[-1]
    positive = [count for count in counts if count]
    rises = 1 + sum(later > earlier for earlier, later in pairwise(positive))
    return steps if min(steps) >= 0 and 2 * rises > len(positive) else []
