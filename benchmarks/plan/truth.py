"""The true capacity of an emulated plant: the rate at which a percentile meets its limit.

Measured on the emulator alone, which shares no code with the model and the search that are judged:
the same long load in virtual time at one rate after another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, log, sqrt

import numpy as np

from benchmarks.plan.plants import EmulatedPlant
from loadgen.emulator.virtual_load import ServedLoad
from loadgen.emulator.virtual_server import VirtualServer

REQUESTS = 10_000
WARM_UP = 0.1
"""The share of the requests that comes before those that count."""
FACTORS = {"ttft": (3.0, 8.0), "latency": (1.4, 2.5)}
"""A limit is so many times the percentile of requests that never meet."""
_TOLERANCE = log(1.005)
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
        seconds = getattr(served, self.family)[int(WARM_UP * len(served)) :]
        return float(np.percentile(seconds, 95)) * 1e3


def drawn_objective(emulated: EmulatedPlant) -> Objective:
    """A limit above what the plant does without load, drawn from its seed."""
    rng = emulated.rng(2)
    family = str(rng.choice(sorted(FACTORS)))
    load = emulated.load(1.0, 500, rng)
    alone = replace(load, arrival=np.arange(500) * _QUIET_S)
    unloaded = Objective(family, inf).percentile(VirtualServer(emulated.plant).open_loop(alone))
    return Objective(family, unloaded * float(rng.uniform(*FACTORS[family])))


def true_capacity(emulated: EmulatedPlant, objective: Objective, guess: float) -> float:
    """The highest rate, requests/s, whose percentile keeps the limit; within 0.5 %."""

    def excess(rate: float) -> float:
        load = emulated.load(rate, REQUESTS, emulated.rng(3))
        served = VirtualServer(emulated.plant).open_loop(load)
        return log(objective.percentile(served) / objective.limit_ms)

    low, high, rate, factor = 0.0, inf, guess, 1.03
    while not low or high == inf:
        if excess(rate) > 0:
            high, rate = rate, rate / factor
        else:
            low, rate = rate, rate * factor
        factor *= 1.5
    while log(high / low) > _TOLERANCE:
        middle = sqrt(low * high)
        low, high = (low, middle) if excess(middle) > 0 else (middle, high)
    return sqrt(low * high)
