"""Compiles functions over arrays with numba; where it can't, they run as plain Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """The function, compiled at its first call and kept beside its source where that is possible.

    It stays as it is without numba, and with the variable NUMBA_DISABLE_JIT=1.
    """
    try:
        from numba import njit
    except ImportError:
        return function
    try:
        machine: Function = njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba has no folder that it may write to
        machine = njit(nogil=True)(function)
    return machine
