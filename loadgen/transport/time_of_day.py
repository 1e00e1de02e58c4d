"""Converts times of day, by which machines agree on a moment, to CLOCK_MONOTONIC."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from loadgen.transport.clocks import KernelClock

STEP_NS = 1_000_000
"""A change of the time of day beyond this was set by somebody. Slewing changes both clocks."""
_UNSYNC = 0x0040  # STA_UNSYNC: nothing disciplines the clock
_NS_PER_US = 1_000


class Timex(ctypes.Structure):
    """`struct timex` of Linux on 64 bits (adjtimex(2)). Errors are in microseconds."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("fraction", ctypes.c_long),
        ("more", ctypes.c_long * 32),
    )


def kernel_bound_ns() -> int | None:
    """How far the time of day may be off at most, by the kernel's account (`maxerror`).

    None where no daemon (NTP, PTP) disciplines the clock, or the kernel does not say.
    """
    timex = kernel_account()
    return None if timex is None else disciplined_bound_ns(timex.status, timex.maxerror)


def kernel_account() -> Timex | None:
    """What the kernel says of its clock; None where it says nothing."""
    try:
        read = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):  # not Linux
        return None
    timex = Timex()
    return timex if read(ctypes.byref(timex)) >= 0 else None


def disciplined_bound_ns(status: int, maxerror_us: int) -> int | None:
    """`maxerror` in ns; None where the status says that nothing disciplines the clock."""
    return None if status & _UNSYNC or maxerror_us < 0 else maxerror_us * _NS_PER_US


@dataclass(frozen=True)
class Moment:
    """A moment on CLOCK_MONOTONIC, ns. `bound_ns`: how far it may be off; None where unknown."""

    monotonic_ns: int
    bound_ns: int | None


class TimeOfDay:
    """The time of day on this machine, from now on."""

    def __init__(self) -> None:
        self._clock = KernelClock()

    @property
    def step_ns(self) -> int:
        """How far somebody set the time of day meanwhile; 0 where nobody did."""
        return self._clock.step_ns if self._clock.step_ns > STEP_NS else 0

    def moment(self, unix_ns: int) -> Moment:
        """A time of day, ns since 1970, on CLOCK_MONOTONIC.

        Once the time was set, nobody knows how far it is off.
        """
        self._clock.refresh()
        bound_ns = None if self.step_ns else kernel_bound_ns()
        return Moment(unix_ns + self._clock.offset_ns, bound_ns)
