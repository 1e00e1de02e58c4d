"""Sums over steps of what requests have in them."""

from __future__ import annotations

import numpy as np

from foundation.arrays import Floats, Ints


def summed(step: Ints, amount: Floats | Ints, size: int) -> Floats:
    """The sum of the amounts (n,) that are in each step (size,)."""
    return np.bincount(step, amount, size).astype(np.float64)


def running(begin: Ints, end: Ints, amount: Floats | Ints, size: int) -> Floats:
    """The sum in each step (size,) of the amounts (n,) that are there from `begin`, before `end`.

    Both are at most `size`. Whole numbers are added exactly.
    """
    change = summed(begin, amount, size + 1) - summed(end, amount, size + 1)
    return np.cumsum(change[:size])


def count_running(begin: Ints, end: Ints, size: int) -> Floats:
    """How many requests are in each step (size,): those from `begin`, before `end`."""
    return running(begin, end, np.ones(len(begin)), size)
