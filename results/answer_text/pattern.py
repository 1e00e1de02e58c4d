"""A user's patterns, searched in bounded time: endless backtracking must not hold up a run."""

from __future__ import annotations

from functools import lru_cache

import regex

SECONDS = 0.5
"""What one search may take. A search of an ordinary pattern takes microseconds."""


class TooSlow(Exception):
    """A search that was not over in its time: whether the text matches is not known."""


@lru_cache
def compiled(pattern: str) -> regex.Pattern[str]:
    """The pattern, compiled once. Raises ValueError for what is not a regular expression."""
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"not a regular expression ({error})") from None


def search(pattern: str, text: str) -> regex.Match[str] | None:
    """The first match. Raises TooSlow after `SECONDS`."""
    try:
        return compiled(pattern).search(text, timeout=SECONDS)
    except TimeoutError:
        raise TooSlow(pattern) from None
