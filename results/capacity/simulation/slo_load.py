"""Random requests, and the most that their times may be: which rate keeps all limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil, exp, inf, log, sqrt

import numpy as np

from results.capacity.demand.demand import Demand
from results.capacity.model.engine_model import REACH, EngineModel, LoadRange
from results.capacity.simulation.chances import Chances
from results.capacity.simulation.metrics import distribution
from results.capacity.simulation.replicas import ONE, Replicas
from results.capacity.simulation.saturation import saturation
from results.capacity.simulation.simulator import WARM_UP, simulate, unservable
from results.config import Slo
from results.metrics import FLOORS, RECORDS

_LEAST, _MOST = 2_000, 20_000
"""Requests of a load."""
_BEYOND = 100
"""Requests of a load beyond the highest percentile of the SLO."""
_BATCHES = 20
"""A load has so many times the requests of its largest batch, so that its end counts little."""
_TOLERANCE = log(1.01)
_LEAST_SHARE = 1e-3


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
    """How many requests a load needs for the percentiles that are limited, and for its batches."""
    percentiles = [RECORDS[m].q for m in limits if RECORDS[m].statistic != "mean"]
    beyond = [_BEYOND / (1 - q / 100) for q in percentiles]
    floors = [FLOORS[q] for q in percentiles]
    wanted = min(max(_LEAST, *beyond, _BATCHES * batch * replicas), _MOST)
    return ceil(max([wanted, *floors]) / (1 - WARM_UP))


@dataclass(frozen=True)
class SloLoad:
    """Requests of random lengths at random moments, and the most that a metric may be, ms.

    Rates are of one of the `replicas`, which share the requests.
    """

    chances: Chances
    limits: Mapping[str, float]
    replicas: Replicas = ONE

    def _load(self, lengths: Demand, rate: float) -> Demand:
        """The requests of all replicas, at `rate` for each."""
        return self.chances.load(lengths, rate * self.replicas.count)

    def worst(self, model: EngineModel, lengths: Demand, rate: float) -> tuple[float, str | None]:
        """The largest ratio of a metric and its limit at a rate, and its key."""
        return self._worst_of(model, self._load(lengths, rate))

    def _worst_of(self, model: EngineModel, demand: Demand) -> tuple[float, str | None]:
        simulated = simulate(model, demand, self.replicas)
        values: dict[str, float] = {}
        for family in {RECORDS[metric].family for metric in self.limits}:
            values |= distribution(simulated, demand, family)
        ratios = [(values[m] / limit, m) for m, limit in self.limits.items() if m in values]
        return max(ratios, default=(0.0, None))

    def reached(self, model: EngineModel, lengths: Demand, rate: float) -> LoadRange:
        """The largest load of the replica at a rate."""
        simulated = simulate(model, self._load(lengths, rate), self.replicas)
        return replace(simulated.reached, rate=rate)

    def highest(self, model: EngineModel, lengths: Demand, guess: float = 0.0) -> float:
        """The highest rate that keeps all limits, to about 0.1 %; 0 if it is hardly above zero.

        No rate above saturation has a steady state, however long it takes until that shows. No rate
        far above the model's reach is looked at.
        """
        most = min(saturation(model, lengths, self.chances), 2 * REACH * model.fitted.rate)

        def excess(rate: float) -> float:
            return log(max(self.worst(model, lengths, rate)[0], 1e-9))

        low, high = _bracket(excess, most, min(guess or most / 2, most), 1.05 if guess else 1.5)
        if low[0] in (0.0, most):
            return low[0]
        while log(high[0] / low[0]) > _TOLERANCE:
            rate = sqrt(low[0] * high[0])
            over = excess(rate)
            low, high = ((rate, over), high) if over <= 0 else (low, (rate, over))
        return low[0] * exp(log(high[0] / low[0]) * low[1] / (low[1] - high[1]))

    def hopeless(self, model: EngineModel, lengths: Demand) -> str | None:
        """Why no rate can be said to be held, however low; None where one may be."""
        if reason := unservable(model.scheduler, lengths):
            return reason
        longest = float((lengths.input_tokens + lengths.output_tokens).max())
        if reason := LoadRange(0, 0, longest, 0, 0).beyond(model.fitted):
            return f"beyond the model's reach: {reason}"
        ratio, metric = self._worst_of(model, self._alone(model, lengths))
        if metric is None or ratio <= 1:
            return None
        limit = self.limits[metric]
        return (
            f"no number of replicas can hold the slo: {metric} of requests that are alone is "
            f"{ratio * limit:,.4g} ms, and its limit is {limit:,.4g} ms"
        )

    def _alone(self, model: EngineModel, lengths: Demand) -> Demand:
        """The same requests, so far apart that none meets another."""
        demand = self.chances.load(lengths, 1.0)
        together = replace(demand, arrival=np.zeros(len(demand)))
        apart = float(simulate(model, together, Replicas(len(demand))).last.max())
        return replace(demand, arrival=np.arange(len(demand)) * np.float64(apart))


Point = tuple[float, float]
"""A rate, and the logarithm of the worst ratio there."""


def _bracket(
    excess: Callable[[float], float], most: float, guess: float, factor: float
) -> tuple[Point, Point]:
    """A rate that keeps the limits and a higher one that does not, `factor` apart.

    The first is `most` where that one keeps them, and 0 where none above 0.1 % of `most` does.
    """
    low, high, rate = (0.0, -inf), (inf, inf), guess
    while not low[0] or high[0] == inf:
        over = excess(rate)
        if over > 0:
            high, rate = (rate, over), rate / factor
        elif rate == most:
            return (most, over), high
        else:
            low, rate = (rate, over), min(rate * factor, most)
        if rate < _LEAST_SHARE * most:
            break
    return low, high
