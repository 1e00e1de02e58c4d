"""Fewer points that look the same: the extremes of each of many columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foundation.arrays import Floats, Ints


@dataclass(frozen=True)
class Columns:
    """Points gathered by column: one place, and the least, middle and greatest value of each."""

    at: Floats
    low: Floats
    middle: Floats
    high: Floats


def columns_of(at: Floats, values: Floats, end: float, count: int) -> Columns:
    """Points (n,) at `at`, 0 to `end`, gathered into at most `count` columns of equal width."""
    column = _column(at, end, count)
    order = np.lexsort((values, column))
    firsts, lasts = _ends(column[order])
    ordered = values[order]
    place = (column[order][firsts] + 0.5) * end / count
    return Columns(place, ordered[firsts], ordered[(firsts + lasts) // 2], ordered[lasts])


def extremes(at: Floats, values: Floats, end: float, count: int) -> Ints:
    """The indices of the least and the greatest value in each of `count` columns, in order."""
    column = _column(at, end, count)
    order = np.lexsort((values, column))
    firsts, lasts = _ends(column[order])
    return np.unique(np.concatenate([order[firsts], order[lasts]]))


def _column(at: Floats, end: float, count: int) -> Ints:
    return np.clip((at / end * count).astype(np.int64), 0, count - 1)


def _ends(ordered: Ints) -> tuple[Ints, Ints]:
    """The first and the last index of each run of equal numbers."""
    firsts = np.flatnonzero(np.diff(ordered, prepend=-1))
    return firsts, np.append(firsts[1:], len(ordered)) - 1


def pieces(at: Floats, values: Floats, longest: float) -> NDArray[np.int64]:
    """The number of the piece that each point belongs to.

    A new piece begins behind a value that is NaN, and behind a gap of more than `longest`.
    """
    breaks = np.isnan(values) | (np.diff(at, prepend=at[:1]) > longest)
    return np.cumsum(breaks)
