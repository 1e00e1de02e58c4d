"""Offered rates that vary over time, as a change of clock.

A profile is its cumulative rate: `expected(t)` arrivals up to time t (seconds). `when` is the
inverse. It turns a process of one arrival a second into one with the profile's rate, as regular or
as bursty as before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from loadgen.config import Stage

Times = NDArray[np.float64]


class Profile(Protocol):
    """A rate over time."""

    def expected(self, seconds: float) -> float:
        """Arrivals expected up to a time in seconds."""

    def when(self, arrivals: Times) -> Times:
        """The times in seconds at which so many arrivals are expected."""


def profile_of(stage: Stage, start: float) -> Profile:
    """The profile of an open-loop stage whose window starts after `start` seconds of warm-up."""
    rate = stage.fixed_rate
    assert rate is not None
    if stage.rate_to is not None:
        assert stage.duration is not None
        if stage.steps is not None:
            return Steps(
                tuple(np.linspace(rate, stage.rate_to, stage.steps)), start, stage.duration
            )
        return Ramp(rate, stage.rate_to, start, stage.duration)
    if stage.bursts is not None:
        return OnOff(rate, stage.bursts.on, stage.bursts.off)
    return Steady(rate)


@dataclass(frozen=True)
class Steady:
    """One constant rate."""

    rate: float

    def expected(self, seconds: float) -> float:
        """Arrivals expected up to a time in seconds."""
        return self.rate * seconds

    def when(self, arrivals: Times) -> Times:
        """The times in seconds at which so many arrivals are expected."""
        return arrivals / self.rate


@dataclass(frozen=True)
class Ramp:
    """`rate` until `start`, then a straight line to `to` within `length` seconds, then `to`."""

    rate: float
    to: float
    start: float
    length: float

    def expected(self, seconds: float) -> float:
        """Arrivals expected up to a time in seconds."""
        before = min(seconds, self.start)
        within = min(max(seconds - self.start, 0.0), self.length)
        after = max(seconds - self.start - self.length, 0.0)
        slope = (self.to - self.rate) / self.length
        return self.rate * before + (self.rate + slope * within / 2) * within + self.to * after

    def when(self, arrivals: Times) -> Times:
        """The times in seconds at which so many arrivals are expected."""
        slope = (self.to - self.rate) / self.length
        at_start, at_end = self.expected(self.start), self.expected(self.start + self.length)
        climbing = np.clip(arrivals - at_start, 0.0, at_end - at_start)
        # The root of slope/2 x^2 + rate x = climbing, in the form that also holds for slope 0.
        within = 2 * climbing / (self.rate + np.sqrt(self.rate**2 + 2 * slope * climbing))
        return (
            np.minimum(arrivals, at_start) / self.rate
            + within
            + np.maximum(arrivals - at_end, 0.0) / self.to
        )


@dataclass(frozen=True)
class Steps:
    """The first of `rates` until `start`, then each for an equal part of `length`, then the last
    one.
    """

    rates: tuple[float, ...]
    start: float
    length: float

    def expected(self, seconds: float) -> float:
        """Arrivals expected up to a time in seconds."""
        times, counts = self._corners()
        beyond = max(seconds - float(times[-1]), 0.0) * self.rates[-1]
        return float(np.interp(seconds, times, counts)) + beyond

    def when(self, arrivals: Times) -> Times:
        """The times in seconds at which so many arrivals are expected."""
        times, counts = self._corners()
        within: Times = np.interp(arrivals, counts, times)
        return np.asarray(within + np.maximum(arrivals - counts[-1], 0.0) / self.rates[-1])

    def _corners(self) -> tuple[Times, Times]:
        """The times at which the rate changes, and the arrivals expected until then."""
        each = self.length / len(self.rates)
        times = np.array([0.0, *(self.start + each * np.arange(len(self.rates) + 1))])
        counts = np.cumsum([0.0, self.rates[0] * self.start, *(each * np.array(self.rates))])
        return times, counts


@dataclass(frozen=True)
class OnOff:
    """A rate for `on` seconds, then none for `off` seconds, repeatedly. `rate` is the mean."""

    rate: float
    on: float
    off: float

    def expected(self, seconds: float) -> float:
        """Arrivals expected up to a time in seconds."""
        cycles, rest = divmod(seconds, self.on + self.off)
        return self.rate * (self.on + self.off) * (cycles + min(rest / self.on, 1.0))

    def when(self, arrivals: Times) -> Times:
        """The times in seconds at which so many arrivals are expected."""
        period = self.on + self.off
        cycles, rest = np.divmod(arrivals, self.rate * period)
        return cycles * period + rest / (self.rate * period) * self.on
