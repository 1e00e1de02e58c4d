"""A timer of the kernel: an event loop's own timers are accurate to a millisecond."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_NS = 1_000_000_000


class _Timespec(ctypes.Structure):
    _fields_ = (("sec", ctypes.c_long), ("nsec", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Alarm:
    """Calls `expired` at the time set.

    It uses a timerfd (Linux), or the loop's timers where there is none.
    """

    def __init__(self, expired: Callable[[], None]) -> None:
        self._expired = expired
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._fd = -1

    def __enter__(self) -> Self:
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd >= 0:
            self._setting = _Itimerspec()
            self._where = ctypes.byref(self._setting)
            self._loop.add_reader(self._fd, self._read)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)

    def set(self, at_ns: int) -> None:
        """Sets the time of the next call, CLOCK_MONOTONIC. A past time means soon."""
        if self._fd >= 0:
            value = self._setting.value
            value.sec, value.nsec = divmod(at_ns, _NS)
            self._libc.timerfd_settime(self._fd, _ABSOLUTE, self._where, None)
        else:
            self._timer = self._loop.call_later(
                max(0, at_ns - time.monotonic_ns()) / _NS, self._expired
            )

    def _read(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._fd, 8)
        self._expired()
