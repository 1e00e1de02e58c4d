"""Converts another program's wall-clock times to CLOCK_MONOTONIC, unless the clock was set."""

from __future__ import annotations

import time
from dataclasses import dataclass

_LEAST_JUMP_NS = 5_000_000
_FASTEST_SLEW = 1e-3
"""Time servers speed a clock up or slow it down by less; faster is a jump."""
_LONGEST_LAG_NS = 10_000_000_000
_ROUNDING_NS = 1_000
"""A float has wall-clock seconds to within a quarter of a microsecond."""


@dataclass(frozen=True)
class Reading:
    """Both clocks at one moment. `jump_ns`: how far the wall clock was set since the last one."""

    monotonic_ns: int
    unix_ns: int
    jump_ns: int = 0

    def moment_ns(self, unix_s: float) -> int | None:
        """A recent wall-clock time on CLOCK_MONOTONIC; None where the clock was set since then."""
        lag_ns = self.unix_ns - round(unix_s * 1e9)
        if self.jump_ns or not -_ROUNDING_NS <= lag_ns <= _LONGEST_LAG_NS:
            return None
        return self.monotonic_ns - max(lag_ns, 0)


class WallClock:
    """Reads both clocks, and notices at each reading whether the wall clock was set."""

    def __init__(self) -> None:
        self._last = Reading(time.monotonic_ns(), time.time_ns())
        self._set_ns = 0
        self._jumps_ns = 0

    def read(self) -> Reading:
        """Both clocks now."""
        monotonic_ns, unix_ns = time.monotonic_ns(), time.time_ns()
        since_ns = monotonic_ns - self._last.monotonic_ns
        jump_ns = unix_ns - self._last.unix_ns - since_ns
        if abs(jump_ns) <= _LEAST_JUMP_NS + _FASTEST_SLEW * since_ns:
            jump_ns = 0
        else:
            self._set_ns = monotonic_ns
            self._jumps_ns += abs(jump_ns)
        self._last = Reading(monotonic_ns, unix_ns, jump_ns)
        return self._last

    def held_since(self, monotonic_ns: int) -> bool:
        """Whether a duration of the wall clock since then is right.

        The moment itself may come of that duration, so it is off by the jumps at most.
        """
        return monotonic_ns - self._jumps_ns > self._set_ns
