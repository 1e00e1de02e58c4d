"""The highest rate that one replica holds within the SLO, by simulation, and how sure that is.

A rate is held where every limit on a time is kept in the steady state of requests that arrive by
chance (Poisson). Limits on rates are of a whole load, and shares of answers do not depend on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, exp, sqrt

import numpy as np
from scipy.special import stdtrit

from foundation.arrays import Floats
from results.capacity.demand.demand import Demand
from results.capacity.model.engine_model import EngineModel
from results.capacity.simulation.chances import by_length, resampled
from results.capacity.simulation.highest_rate import HighestRate, highest_rate
from results.capacity.simulation.replicas import ONE, Replicas
from results.capacity.simulation.slo_load import MOST, SloLoad, absolute_limits, requests_for
from results.config import Slo

RUNS, DRAWS = 8, 16
"""Runs that the rate is of; draws of model and lengths that its interval rests on."""
ERROR = 0.0075
"""Runs are so long that the standard error by chance is about this or less, up to the longest."""
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
    first = SloLoad.of(limits, 1, requests_for(limits, replicas=replicas.count), rng, replicas)
    if reason := first.hopeless(model, lengths):
        return HeldRate(reason=reason)
    load, highest = _long_enough(first, model, lengths, rng)
    one = replace(load, runs=load.runs[:1])
    own = highest_rate(one, model, lengths, highest.rate).rate
    if not own or not highest.rate:
        return HeldRate(reason="the limits are kept only where requests hardly ever meet")
    ratios = [
        highest_rate(one, model.drawn(place), resampled(demand, rng), own).rate / own
        for place in _places(len(model.draws), rng)
    ]
    interval = _interval(highest, np.array(ratios))
    held = HeldRate(highest.rate, *interval, False, highest.binding, highest.error)
    if not ratios:
        held = replace(held, reason="the model has no draws, so the rate has no interval")
    if held.low == 0:
        held = replace(held, reason="the data leave open whether any rate is held")
    return _within_reach(held, model, lengths, one)


def _long_enough(
    first: SloLoad, model: EngineModel, lengths: Demand, rng: np.random.Generator
) -> tuple[SloLoad, HighestRate]:
    """A load that chance moves the rate of by about `ERROR` or less, and that rate.

    Near saturation a queue grows for long, and forgets its past only after many requests. So tries
    become longer while their later half tells a lower rate. The further apart their runs are, the
    longer the load. It is a new one: of loads that are taken where they seem to be sure, the error
    would seem too small.
    """
    about = highest_rate(first, model, lengths).rate
    decodes = first.reached(model, lengths, about).decodes if about else 0.0
    requests = requests_for(first.limits, decodes, first.replicas.count)

    def load_of(requests: int) -> SloLoad:
        return SloLoad.of(first.limits, RUNS, requests, rng, first.replicas)

    trial = highest_rate(load_of(requests), model, lengths, about)
    while trial.later < -ERROR and requests < MOST:
        requests = min(2 * requests, MOST)
        trial = highest_rate(load_of(requests), model, lengths, trial.rate)
    longer = ceil(requests * max(trial.error / ERROR, 1.0) ** 2)
    load = load_of(max(requests, min(longer, MOST)))
    return load, highest_rate(load, model, lengths, trial.rate)


def _places(draws: int, rng: np.random.Generator) -> list[int]:
    """`DRAWS` of so many draws, by chance; none of none."""
    return list(rng.choice(draws, DRAWS, replace=draws < DRAWS)) if draws else []


def _interval(highest: HighestRate, ratios: Floats) -> tuple[float | None, float | None]:
    """From the rates of the draws over the model's own, under the same chances (log-normal).

    The lower end is 0 where a draw holds no rate; then fewer than two others tell no upper end.
    """
    if not len(ratios):
        return None, None
    t = float(stdtrit(len(ratios) - 1, 1 - _TAIL))
    t_of_runs = float(stdtrit(RUNS - 1, 1 - _TAIL))
    kept = np.log(ratios[ratios > 0])
    if len(kept) < 2:
        return 0.0, None
    half = sqrt((t * float(kept.std(ddof=1))) ** 2 + (t_of_runs * highest.error) ** 2)
    low = highest.rate * exp(-half) if len(kept) == len(ratios) else 0.0
    return low, highest.rate * exp(half)


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
