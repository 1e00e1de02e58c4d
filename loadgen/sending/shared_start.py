"""The moment at which a block begins on several machines, each of which sends a share of it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from foundation.errors import SystemFailed
from loadgen.schedule.arrivals import SECOND
from loadgen.sending.origin import Origin

# What it takes to tell local workers the origin.
_LEAD_NS = 100_000_000


class LateStart(SystemFailed):
    """This machine was ready `late_s` seconds after the block began on the others."""

    def __init__(self, late_s: float) -> None:
        super().__init__(f"ready {late_s:.1f} s after the block began on the other machines")
        self.late_s = late_s


@dataclass(frozen=True)
class SharedStart:
    """When a block begins on each of `machines` machines.

    `origin_ns`: that moment on this machine's CLOCK_MONOTONIC. `bound_ns`: how far it may lie from
    the moment agreed upon; None where nobody knows it.
    """

    machines: int
    origin_ns: int
    bound_ns: int | None

    async def origin(self) -> Origin:
        """The origin. Raises LateStart where it is too near to begin in time, or over."""
        late_ns = time.monotonic_ns() + _LEAD_NS - self.origin_ns
        if late_ns > 0:
            raise LateStart(late_ns / SECOND)
        return Origin(self.origin_ns, self.origin_ns)
