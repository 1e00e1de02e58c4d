"""Random requests, and the most that their times may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, log

import numpy as np

from foundation.arrays import Floats, Ints
from results.capacity.demand.demand import Demand
from results.capacity.model.engine_model import EngineModel, LoadRange
from results.capacity.simulation.chances import Chances
from results.capacity.simulation.metrics import counted_times, statistics_of_times
from results.capacity.simulation.replicas import ONE, Replicas
from results.capacity.simulation.simulator import WARM_UP, simulate, unservable
from results.config import Slo
from results.metrics import FLOORS, RECORDS

MOST = 20_000
"""Requests of a run."""
_LEAST = 2_000
_BEYOND = 100
"""Requests of a run beyond the highest percentile of the SLO."""
_BATCHES = 20
"""A run has so many times the requests of its largest batch, so that its end counts little."""

RunTimes = Mapping[str, tuple[Floats, Ints]]
"""The times of a run, ms, and how many tokens or requests have each, by family."""


def later_halves(times: Sequence[RunTimes]) -> list[RunTimes]:
    """The times of the later half of each run. Those of tokens are counted by size: all of them."""
    return [
        {
            family: (values, counts)
            if family == "itl"
            else (values[len(values) // 2 :], counts[len(counts) // 2 :])
            for family, (values, counts) in run.items()
        }
        for run in times
    ]


def absolute_limits(slo: Slo, baseline: Mapping[str, float]) -> dict[str, float] | str:
    """The limits on times, ms, by metric; or why there are none.

    `baseline`: values of metrics, which relative limits are factors of.
    """
    limits = {}
    for metric, limit in slo.limits.items():
        if RECORDS[metric].kind != "time":
            continue
        if limit.absolute is not None:
            limits[metric] = limit.absolute
        elif metric in baseline and limit.relative is not None:
            limits[metric] = limit.relative * baseline[metric]
        else:
            return f"the limit on {metric} is relative to the baseline, which has no such value"
    return limits or "the slo names no limit on a time, so no rate breaks it"


def requests_for(limits: Mapping[str, float], batch: float = 0.0, replicas: int = 1) -> int:
    """How many requests a run needs for the percentiles that are limited, and for its batches."""
    percentiles = [RECORDS[m].q for m in limits if RECORDS[m].statistic != "mean"]
    beyond = [_BEYOND / (1 - q / 100) for q in percentiles]
    floors = [FLOORS[q] for q in percentiles]
    wanted = min(max(_LEAST, *beyond, _BATCHES * batch * replicas), MOST)
    return ceil(max([wanted, *floors]) / (1 - WARM_UP))


@dataclass(frozen=True)
class SloLoad:
    """Runs of requests of random lengths at random moments, and the most a metric may be, ms.

    Each run comes to idle replicas. Metrics are those of the requests of all runs together. Rates
    are of one of the `replicas`, which share the requests.
    """

    runs: Sequence[Chances]
    limits: Mapping[str, float]
    replicas: Replicas = ONE

    @staticmethod
    def of(
        limits: Mapping[str, float],
        runs: int,
        requests: int,
        rng: np.random.Generator,
        replicas: Replicas = ONE,
    ) -> SloLoad:
        """So many runs of so many requests."""
        return SloLoad([Chances.of(requests, rng) for _ in range(runs)], limits, replicas)

    def times(self, model: EngineModel, lengths: Demand, rate: float) -> list[RunTimes]:
        """What each run takes at a rate."""
        return [self._times_of(model, self._load(run, lengths, rate)) for run in self.runs]

    def worst(self, times: Sequence[RunTimes]) -> tuple[float, str | None]:
        """The largest ratio of a metric and its limit over some runs, and its key."""
        values: dict[str, float] = {}
        for family in self._families():
            each, counts = zip(*(run[family] for run in times), strict=True)
            values |= statistics_of_times(family, np.concatenate(each), np.concatenate(counts))
        ratios = [(values[m] / limit, m) for m, limit in self.limits.items() if m in values]
        return max(ratios, default=(0.0, None))

    def excess(self, times: Sequence[RunTimes]) -> float:
        """The logarithm of the largest ratio: above 0 where a limit is broken."""
        return log(max(self.worst(times)[0], 1e-9))

    def reached(self, model: EngineModel, lengths: Demand, rate: float) -> LoadRange:
        """The largest load of the replica at a rate, in the first run."""
        simulated = simulate(model, self._load(self.runs[0], lengths, rate), self.replicas)
        return replace(simulated.reached, rate=rate)

    def hopeless(self, model: EngineModel, lengths: Demand) -> str | None:
        """Why no rate can be said to be held, however low; None where one may be."""
        if reason := unservable(model.scheduler, lengths):
            return reason
        longest = float((lengths.input_tokens + lengths.output_tokens).max())
        if reason := LoadRange(0, 0, longest, 0, 0).beyond(model.fitted):
            return f"beyond the model's reach: {reason}"
        ratio, metric = self.worst([self._times_of(model, self._alone(model, lengths))])
        if metric is None or ratio <= 1:
            return None
        limit = self.limits[metric]
        return (
            f"no number of replicas can hold the slo: {metric} of requests that are alone is "
            f"{ratio * limit:,.4g} ms, and its limit is {limit:,.4g} ms"
        )

    def _load(self, run: Chances, lengths: Demand, rate: float) -> Demand:
        """The requests of a run for all replicas, at `rate` for each."""
        return run.load(lengths, rate * self.replicas.count)

    def _families(self) -> list[str]:
        return sorted({RECORDS[metric].family for metric in self.limits})

    def _times_of(self, model: EngineModel, demand: Demand) -> RunTimes:
        simulated = simulate(model, demand, self.replicas)
        return {each: counted_times(simulated, demand, each) for each in self._families()}

    def _alone(self, model: EngineModel, lengths: Demand) -> Demand:
        """The first run's requests, so far apart that none meets another."""
        demand = self.runs[0].load(lengths, 1.0)
        together = replace(demand, arrival=np.zeros(len(demand)))
        apart = float(simulate(model, together).last.max())
        return replace(demand, arrival=np.arange(len(demand)) * np.float64(apart))
