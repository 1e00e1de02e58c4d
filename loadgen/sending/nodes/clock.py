"""How far a node's CLOCK_MONOTONIC is from ours, found with ping-pongs.

Each ping-pong has four stamps: sent (our clock), received and answered (the node's), back (ours).
Neither way takes less than no time, so the round trip bounds the error: Cristian, "Probabilistic
clock synchronization", Distributed Computing 3 (1989).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PINGS = 16
"""Ping-pongs of one measurement. The one with the shortest round trip counts."""
# A kernel slews a clock by at most 500 parts in a million (adjtimex), and either clock may be.
_SLEW = 2 * 500e-6

Stamps = NDArray[np.int64] | Sequence[int]


@dataclass(frozen=True)
class ClockOffset:
    """The node's clock less ours, in ns, at `at_ns` of our clock.

    The true offset then was within `bound_ns` of `offset_ns`, however long each way took.
    """

    offset_ns: int
    bound_ns: int
    at_ns: int


def clock_offset(sent: Stamps, received: Stamps, answered: Stamps, back: Stamps) -> ClockOffset:
    """The offset by the ping-pong with the shortest round trip.

    Four arrays of one length, ns: sent and back on our clock, received and answered on the node's.
    Raises ValueError for none at all, and for stamps that no clocks can give.
    """
    ours = np.asarray(back, np.int64) - np.asarray(sent, np.int64)
    theirs = np.asarray(answered, np.int64) - np.asarray(received, np.int64)
    trips = ours - theirs
    if not len(trips):
        raise ValueError("no ping-pong")
    if (theirs < 0).any() or (trips < 0).any():
        raise ValueError("a ping-pong ended before it began")
    best = int(np.argmin(trips))
    outward, homeward = int(received[best] - sent[best]), int(answered[best] - back[best])
    half_trip = -(-int(trips[best]) // 2)
    return ClockOffset((outward + homeward) // 2, half_trip, int(back[best]))


@dataclass(frozen=True)
class ClockDrift:
    """The offset of a node before a block and after it."""

    first: ClockOffset
    last: ClockOffset

    @property
    def bound_ns(self) -> int:
        """How far the node's stamps, from an origin by the first offset, may be off ours, ns."""
        moved = abs(self.last.offset_ns - self.first.offset_ns)
        return max(self.first.bound_ns, moved + self.last.bound_ns)

    @property
    def step_ns(self) -> int:
        """How far the node's clock was set, ns; 0 where slewing explains what it moved."""
        moved = abs(self.last.offset_ns - self.first.offset_ns)
        apart = moved - self.first.bound_ns - self.last.bound_ns
        slewed = _SLEW * (self.last.at_ns - self.first.at_ns)
        return apart if apart > slewed else 0


@dataclass(frozen=True)
class JointClock:
    """The clocks of all nodes of a block, against ours.

    `bound_ns`: how far the origins of any two may lie apart at most. `step_ns`: the largest step.
    """

    bound_ns: int
    step_ns: int


def joint_clock(drifts: Sequence[ClockDrift]) -> JointClock:
    """The clocks of one node or more, taken together."""
    bounds = sorted((drift.bound_ns for drift in drifts), reverse=True)
    return JointClock(sum(bounds[:2]), max(drift.step_ns for drift in drifts))
