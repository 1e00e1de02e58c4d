"""The highest rate that one replica holds within the SLO, by simulation, and how sure that is.

A rate is held where every limit on a time is kept in the steady state of requests that arrive by
chance (Poisson). Limits on rates are of a whole load, and shares of answers do not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import exp, sqrt

import numpy as np
from scipy.special import stdtrit

from foundation.arrays import Floats
from results.capacity.demand.demand import Demand
from results.capacity.model.engine_model import EngineModel
from results.capacity.simulation.chances import Chances, by_length, resampled
from results.capacity.simulation.replicas import ONE, Replicas
from results.capacity.simulation.slo_load import SloLoad, absolute_limits, requests_for
from results.config import Slo

LOADS, DRAWS = 6, 16
"""Loads that the rate is the mean of; draws of model and lengths that its interval rests on."""
_TAIL = 0.025


@dataclass(frozen=True)
class HeldRate:
    """Requests/s that one replica holds, with a 95 % interval; None where it is not known.

    `low` and `high` hold what the model's data and the finite sample of lengths leave open, and the
    Monte Carlo error. `monte_carlo`: the relative standard error of `rate` from chance alone.
    `lower_bound`: more may be held, beyond the model's reach; `high` is None then. `binding`: the
    metric whose limit is met first. `reason`: why a number is missing.
    """

    rate: float | None = None
    low: float | None = None
    high: float | None = None
    lower_bound: bool = False
    binding: str | None = None
    monte_carlo: float | None = None
    reason: str | None = None


def held_rate(
    model: EngineModel,
    demand: Demand,
    slo: Slo,
    seed: int,
    baseline: Mapping[str, float] | None = None,
    replicas: Replicas = ONE,
) -> HeldRate:
    """The highest Poisson rate of requests like `demand`'s that keeps the SLO's limits on times.

    The rate is that of one of the `replicas`; their requests together arrive by chance.
    `baseline`: the baseline's metrics, for relative limits. The same seed brings the same requests
    to every model.
    """
    limits = absolute_limits(slo, baseline or {})
    if isinstance(limits, str):
        return HeldRate(reason=limits)
    rng, lengths = np.random.default_rng(seed), by_length(demand)
    requests = requests_for(limits, replicas=replicas.count)
    first = SloLoad(Chances.of(requests, rng), limits, replicas)
    if reason := first.hopeless(model, lengths):
        return HeldRate(reason=reason)
    about = first.highest(model, lengths)
    loads = list(_loads(first, model, lengths, about, rng))
    rates = np.array([load.highest(model, lengths, about) for load in loads])
    if not rates.all():
        return HeldRate(reason="the limits are kept only where requests hardly ever meet")
    rate = float(rates.mean())
    error = float(rates.std(ddof=1)) / rate / sqrt(len(rates))
    ratios = [
        loads[0].highest(model.drawn(place), resampled(demand, rng), float(rates[0])) / rates[0]
        for place in _places(len(model.draws), rng)
    ]
    binding = loads[0].worst(model, lengths, rate)[1]
    held = HeldRate(rate, *_interval(rate, error, np.array(ratios)), False, binding, error)
    if not ratios:
        held = replace(held, reason="the model has no draws, so the rate has no interval")
    if held.low == 0:
        held = replace(held, reason="the data leave open whether any rate is held")
    return _within_reach(held, model, lengths, loads[0])


def _loads(
    first: SloLoad, model: EngineModel, lengths: Demand, rate: float, rng: np.random.Generator
) -> Iterator[SloLoad]:
    """Loads long enough for the batch that the model reaches near `rate`, about its highest."""
    decodes = first.reached(model, lengths, rate).decodes if rate else 0.0
    requests = requests_for(first.limits, decodes, first.replicas.count)
    for _ in range(LOADS):
        yield replace(first, chances=Chances.of(requests, rng))


def _places(draws: int, rng: np.random.Generator) -> list[int]:
    """`DRAWS` of so many draws, by chance; none of none."""
    return list(rng.choice(draws, DRAWS, replace=draws < DRAWS)) if draws else []


def _interval(rate: float, error: float, ratios: Floats) -> tuple[float | None, float | None]:
    """From the rates of the draws over the model's own, under the same chances (log-normal).

    The lower end is 0 where a draw holds no rate; then fewer than two others tell no upper end.
    """
    if not len(ratios):
        return None, None
    t = float(stdtrit(len(ratios) - 1, 1 - _TAIL))
    t_of_loads = float(stdtrit(LOADS - 1, 1 - _TAIL))
    kept = np.log(ratios[ratios > 0])
    if len(kept) < 2:
        return 0.0, None
    half = sqrt((t * float(kept.std(ddof=1))) ** 2 + (t_of_loads * error) ** 2)
    return (rate * exp(-half) if len(kept) == len(ratios) else 0.0), rate * exp(half)


def _within_reach(held: HeldRate, model: EngineModel, lengths: Demand, load: SloLoad) -> HeldRate:
    """The answer, cut down to the largest load that the model was fitted on."""
    assert held.rate is not None

    def beyond(rate: float) -> str | None:
        return load.reached(model, lengths, rate).beyond(model.fitted)

    if (reason := beyond(held.rate)) is None:
        return held
    low, high = held.rate / 1000, held.rate
    if why := beyond(low):
        return HeldRate(reason=f"beyond the model's reach at any rate: {why}")
    while high / low > 1.005:
        middle = sqrt(low * high)
        low, high = (low, middle) if beyond(middle) else (middle, high)
    bound = None if held.low is None else min(held.low, low)
    return replace(
        held, rate=low, low=bound, high=None, lower_bound=True,
        reason=f"more may be held, beyond the model's reach: {reason}",
    )  # fmt: skip
