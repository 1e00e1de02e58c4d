"""Waking at an absolute time. An event loop's own timers are a millisecond coarse; the kernel's are not."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
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
    """Waits until a time on CLOCK_MONOTONIC, with a timerfd where there is one (Linux), else with the loop's timers.

    `ring` ends the present wait, and every later one, at once.
    """

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._rung = False
        self._fd = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._expired)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)

    async def until(self, at_ns: int) -> None:
        """Return at `at_ns`, or at once where that is past."""
        while not self._rung and (wait_ns := at_ns - time.monotonic_ns()) > 0:
            self._waiter = self._loop.create_future()
            if self._fd >= 0:
                setting = _Itimerspec(_Timespec(0, 0), _Timespec(*divmod(at_ns, _NS)))
                self._libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(setting), None)
            else:
                self._loop.call_later(wait_ns / _NS, self._wake)
            await self._waiter

    def ring(self) -> None:
        self._rung = True
        self._wake()

    def _expired(self) -> None:
        with suppress(BlockingIOError):  # set anew since it expired
            os.read(self._fd, 8)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
