"""The true capacity of an emulated plant: the rate at which so many requests are over the limit.

Measured on the emulator alone, which shares no code with the model and the search that are judged:
short loads in virtual time find two rates around it, long ones tell how many requests are over the
limit there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, inf, log, sqrt

import numpy as np

from benchmarks.plan.plants import EmulatedPlant
from foundation.arrays import Flags, Floats
from loadgen.emulator.virtual_load import ServedLoad
from loadgen.emulator.virtual_server import VirtualServer

SHORT, LONG = 4_000, 30_000
"""Requests of a load."""
UNCLEAR = 2.0
"""What is no further from the truth than so many of its standard errors is not known."""
WARM_UP = 0.1
"""The share of the requests that comes before those that count."""
FACTORS = {"ttft": (3.0, 8.0), "latency": (1.4, 2.5)}
"""A limit is so many times the percentile of requests that never meet."""
_ALLOWED = 0.05
_APART = log(1.08)
"""The rates of the long loads are at most so far apart."""
_BATCHES = 20
_QUIET_S = 60.0


@dataclass(frozen=True)
class Objective:
    """The 95th percentile of `family` may be `limit_ms` at most."""

    family: str
    limit_ms: float

    @property
    def metric(self) -> str:
        """Its key in `results.metrics`."""
        return f"{self.family}_p95"

    def percentile(self, served: ServedLoad) -> float:
        """What a served load has, ms."""
        return float(np.percentile(self._settled(served), 95))

    def over(self, served: ServedLoad) -> Flags:
        """The requests (n,) of a served load that are over the limit."""
        return np.asarray(self._settled(served) > self.limit_ms)

    def _settled(self, served: ServedLoad) -> Floats:
        """The times of the requests after the warm-up, ms."""
        seconds = getattr(served, self.family)[int(WARM_UP * len(served)) :]
        return np.asarray(seconds * 1e3)


@dataclass(frozen=True)
class Truth:
    """A capacity, requests/s, and its standard error as a share of it."""

    rate: float
    error: float

    def is_near(self, *ends: float | None) -> bool:
        """Whether its own error leaves open on which side of an end it is."""
        return any(end and abs(end / self.rate - 1) <= UNCLEAR * self.error for end in ends)

    def outside(self, low: float | None, high: float | None) -> float:
        """How far it is outside an interval, as a share of it; an absent end excludes nothing."""
        below = 0.0 if low is None else low / self.rate - 1
        above = 0.0 if high is None else 1 - high / self.rate
        return max(0.0, below, above)


def drawn_objective(emulated: EmulatedPlant) -> Objective:
    """A limit above what the plant does without load, drawn from its seed."""
    rng = emulated.rng(2)
    family = str(rng.choice(sorted(FACTORS)))
    load = emulated.load(1.0, 500, rng)
    alone = replace(load, arrival=np.arange(500, dtype=np.float64) * _QUIET_S)
    unloaded = Objective(family, inf).percentile(VirtualServer(emulated.plant).open_loop(alone))
    return Objective(family, unloaded * float(rng.uniform(*FACTORS[family])))


def true_capacity(
    emulated: EmulatedPlant, objective: Objective, guess: float, requests: int = LONG
) -> Truth:
    """The rate of which 5 % of the requests are over the limit.

    `guess`: where to begin. `requests`: of a long load.
    """
    low, high = _around(emulated, objective, guess)
    below, above = (_seen(emulated, objective, rate, requests) for rate in (low, high))
    while below.excess > 0:
        low, above, high = low * exp(-_APART), below, low
        below = _seen(emulated, objective, low, requests)
    while above.excess <= 0:
        below, low, high = above, high, high * exp(_APART)
        above = _seen(emulated, objective, high, requests)
    part = below.excess / (below.excess - above.excess)
    apart = log(high / low)
    slope = (above.excess - below.excess) / apart
    # Both loads are of the same random numbers, so their errors add up.
    error = ((1 - part) * below.error + part * above.error) / slope
    return Truth(low * exp(part * apart), error)


@dataclass(frozen=True)
class _Seen:
    """The logarithm of the odds to be over the limit, less that of 5 %, and its standard error."""

    excess: float
    error: float


def _seen(emulated: EmulatedPlant, objective: Objective, rate: float, requests: int) -> _Seen:
    load = emulated.load(rate, requests, emulated.rng(3))
    over = objective.over(VirtualServer(emulated.plant).open_loop(load))
    share = (float(over.sum()) + 0.5) / (len(over) + 1)
    means = over[: len(over) // _BATCHES * _BATCHES].reshape(_BATCHES, -1).mean(axis=1)
    error = float(means.std(ddof=1)) / sqrt(_BATCHES)
    return _Seen(
        log(share / (1 - share)) - log(_ALLOWED / (1 - _ALLOWED)), error / (share * (1 - share))
    )


def _around(emulated: EmulatedPlant, objective: Objective, guess: float) -> tuple[float, float]:
    """A rate that holds and one that does not, `_APART` at most, by short loads."""
    low, high, rate, factor = 0.0, inf, guess, exp(_APART / 2)
    while not low or high == inf or log(high / low) > _APART:
        if _seen(emulated, objective, rate, SHORT).excess > 0:
            high = rate
        else:
            low = rate
        if low and high < inf:
            rate = sqrt(low * high)
        else:
            rate, factor = (rate * factor if low else rate / factor), factor**2
    return low, high
