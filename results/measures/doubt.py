"""What is held against a measurement: how much it matters, and in which words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

Level = Literal["VALID", "SUSPECT", "INVALID"]
Doubt = tuple[Level, str]
LEVELS: tuple[Level, ...] = get_args(Level)


def worst_level(levels: Iterable[Level]) -> Level:
    """The worst of some levels, VALID if there are none."""
    return max(levels, key=LEVELS.index, default="VALID")


def some(count: int, noun: str) -> str:
    """A count with its noun: "1 answer", "1,200 answers"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
