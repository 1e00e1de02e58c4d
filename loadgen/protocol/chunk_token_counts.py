"""How many tokens each content chunk carried, from the counts that came beside the chunks: which of them can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
from operator import sub

from foundation.run.records import MOST_TOKENS


def is_count(value: int | None) -> bool:
    return value is not None and 0 <= value <= MOST_TOKENS


def tokens_of_chunks(given: Sequence[int | None], total: int | None) -> tuple[list[int], bool]:
    """Tokens of each chunk, never negative, and whether the counts agree with one another and with the `total`.

    `given`: what the usage beside each chunk said, None or 0 where it said nothing (a chunk of content has a token). Most servers
    that say something there give a running count; some give each chunk's own. Where it can be neither, a chunk is one token.
    """
    if not any(given):
        return [1] * len(given), True
    counts = list(filter(None, given)) if all(given) else [count or 0 for count in given]
    running = list(map(sub, counts, chain((0,), counts)))
    if min(running) > 0:  # as most are, and as cheap as it can be
        told = most = counts[-1]
    else:
        running = _steps(counts)
        told, most = sum(running), max(counts)
    if running and is_count(most) and (total is None or told <= total):
        hidden = 0 if total is None else total - counts[-1]
        if hidden < 2 or not _own(counts, total):
            return running, True
    if _own(counts, total):
        return counts, True
    return [1] * len(counts), False


def _own(counts: Sequence[int], total: int | None) -> bool:
    """Whether the counts are each chunk's own: they add up to the total, of which the end token has no text."""
    return total is not None and min(counts) > 0 and total - 1 <= sum(counts) <= total


def _steps(counts: Sequence[int]) -> list[int]:
    """The differences of a running count, a chunk without one being a token. Empty where it falls, or mostly stands still."""
    steps, told = [], 0
    for count in counts:
        steps.append(count - told if count else 1)
        told += steps[-1]
    given = [count for count in counts if count]
    rises = 1 + sum(later > earlier for earlier, later in pairwise(given))
    return steps if min(steps) >= 0 and 2 * rises > len(given) else []
