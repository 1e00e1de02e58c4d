"""Converts the kernel's receive stamps (CLOCK_REALTIME) to CLOCK_MONOTONIC, the journals' clock."""

from __future__ import annotations

import time


def offset_ns() -> int:
    """CLOCK_MONOTONIC less CLOCK_REALTIME, ns, from the tightest of a few readings."""
    readings = []
    for _ in range(5):
        before = time.monotonic_ns()
        real = time.time_ns()
        after = time.monotonic_ns()
        readings.append((after - before, (before + after) // 2 - real))
    return min(readings)[1]


class KernelClock:
    """The offset between the clocks, measured again by `refresh`.

    Both clocks are slewed alike, so the offset changes only when somebody sets the time. `step_ns`:
    the largest change so far.
    """

    def __init__(self) -> None:
        self.offset_ns = self._first_ns = offset_ns()
        self.step_ns = 0

    def refresh(self) -> None:
        """Measures the offset again."""
        self.offset_ns = offset_ns()
        self.step_ns = max(self.step_ns, abs(self.offset_ns - self._first_ns))
