"""The simulator against queues whose mean wait is known in closed form.

`python -m benchmarks.plan.closed_forms [runs]` prints the mean wait of each, simulated and exact.
- M/M/1, M/D/1, M/G/1: one request at a time, whose prompt is as long as its service takes. That is
  exact to a millionth.
- M/M/c: c requests at a time in steps of one length, and answers of a geometric number of tokens,
  10,000 on average. In steps that short this is c servers behind one queue. A request that comes
  during a step waits for its end: half a step on average, 0.005 % of its service.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from math import factorial, sqrt

import numpy as np

from foundation.arrays import Floats
from results.capacity.demand.demand import Demand
from results.capacity.model.engine_model import (
    EngineModel,
    FrontEnd,
    LoadRange,
    Scheduler,
    StepTime,
)
from results.capacity.simulation.simulator import simulate

REQUESTS, LIMIT = 1_000_000, 0.01
STEPS = 10_000
"""Steps of the mean service in M/M/c."""
_TOKEN = 1e-6
_ANYWHERE = LoadRange(1e12, 1e12, 1e12, 1e12, 1e12)
_SIGMA = 1.0
"""Of the lognormal service of M/G/1."""


@dataclass(frozen=True)
class Queue:
    """A queue of `servers` at utilisation `load` whose mean service takes a second."""

    name: str
    load: float
    servers: int = 1

    def __str__(self) -> str:
        return f"{self.name}, load {self.load:g}" + (
            f", {self.servers} servers" if self.servers > 1 else ""
        )

    @property
    def wait(self) -> float:
        """The mean wait, s: Pollaczek and Khinchine for one server, Erlang for several."""
        if self.servers == 1:
            return self.load * _SECOND_MOMENTS[self.name] / (2 * (1 - self.load))
        offered, c = self.load * self.servers, self.servers
        busy = offered**c / factorial(c) / (1 - self.load)
        idle = sum(offered**k / factorial(k) for k in range(c))
        return busy / (busy + idle) / (c * (1 - self.load))

    def simulated_wait(self, requests: int, rng: np.random.Generator) -> float:
        """The mean wait of so many requests, the first tenth left out, s."""
        arrival = np.cumsum(rng.exponential(1 / (self.load * self.servers), requests))
        if self.servers > 1:
            model = _one_at_a_time(self.servers, StepTime(1 / STEPS, 0, 0))
            lengths = rng.geometric(1 / STEPS, requests)
            demand = Demand.of(arrival, np.ones(requests, np.int64), lengths)
        else:
            model = _one_at_a_time(1, StepTime(0, 0, _TOKEN))
            service = np.rint(_SERVICES[self.name](rng, requests) / _TOKEN).astype(np.int64)
            demand = Demand.of(arrival, np.maximum(service, 1), np.ones(requests, np.int64))
        simulated = simulate(model, demand)
        waits = simulated.scheduled - simulated.queued
        return float(waits[requests // 10 :].mean())


_SERVICES: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "M/M/1": lambda rng, n: rng.exponential(1, n),
    "M/D/1": lambda rng, n: np.ones(n),
    "M/G/1": lambda rng, n: rng.lognormal(-(_SIGMA**2) / 2, _SIGMA, n),
}
_SECOND_MOMENTS = {"M/M/1": 2.0, "M/D/1": 1.0, "M/G/1": float(np.exp(_SIGMA**2))}
QUEUES = (
    *(Queue("M/M/1", load) for load in (0.5, 0.8)),
    *(Queue("M/D/1", load) for load in (0.5, 0.8)),
    *(Queue("M/G/1", load) for load in (0.5, 0.8)),
    *(Queue("M/M/c", load, 4) for load in (0.5, 0.8)),
    Queue("M/M/c", 0.8, 16),
)


def _one_at_a_time(requests: int, steps: StepTime) -> EngineModel:
    scheduler = Scheduler(max_num_seqs=requests)
    return EngineModel(steps, FrontEnd(), scheduler, _ANYWHERE, "engine record")


def row(queue: Queue, runs: int, requests: int = REQUESTS) -> tuple[float, float]:
    """The simulated mean wait over the exact one, less 1, and its standard error."""
    errors = [
        queue.simulated_wait(requests, np.random.default_rng(seed)) / queue.wait - 1
        for seed in range(runs)
    ]
    return float(np.mean(errors)), float(np.std(errors, ddof=1)) / sqrt(runs)


def main(runs: int) -> int:
    """Prints the table. Returns 1 where a mean wait is off by more than 1 %."""
    print(f"{'queue':28} {'exact wait':>10} {'off by':>8} {'+-':>7}")
    off = 0
    for queue in QUEUES:
        error, deviation = row(queue, runs)
        off += abs(error) > LIMIT
        print(f"{queue!s:28} {queue.wait:9.4f}s {error:8.2%} {deviation:7.2%}")
    return int(off > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
