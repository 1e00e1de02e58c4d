"""From the kernel's clock to ours: receive stamps are on CLOCK_REALTIME, journals on CLOCK_MONOTONIC."""

from __future__ import annotations

import time


def offset_ns() -> int:
    """What to add to a CLOCK_REALTIME time to get CLOCK_MONOTONIC's, ns: the tightest of a few readings."""
    readings = []
    for _ in range(5):
        before = time.monotonic_ns()
        real = time.time_ns()
        after = time.monotonic_ns()
        readings.append((after - before, (before + after) // 2 - real))
    return min(readings)[1]


class KernelClock:
    """The offset, measured anew by `refresh`. Both clocks are slewed alike, so it changes only when somebody sets the time;
    `step_ns` is the largest change seen."""

    def __init__(self) -> None:
        self.offset_ns = self._first_ns = offset_ns()
        self.step_ns = 0

    def refresh(self) -> None:
        self.offset_ns = offset_ns()
        self.step_ns = max(self.step_ns, abs(self.offset_ns - self._first_ns))
