"""The highest rate at which the requests of a load keep all limits, and how far chance moves it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, inf, log, sqrt

import numpy as np

from foundation.arrays import Floats
from results.capacity.demand.demand import Demand
from results.capacity.model.engine_model import REACH, EngineModel
from results.capacity.simulation.saturation import saturation
from results.capacity.simulation.slo_load import RunTimes, SloLoad, later_halves

_TOLERANCE = log(1.01)
"""The rate follows from two that are no further apart."""
_MARGIN = 0.45 * _TOLERANCE
_LEAST_SHARE = 1e-3
_NEAR = log(10)

Part = Callable[[Sequence[RunTimes]], Sequence[RunTimes]]
"""Takes a part of the times of a load's runs."""


@dataclass(frozen=True)
class HighestRate:
    """Requests/s; 0 if hardly any keep the limits. `binding`: the metric that meets its limit.

    `shifts` (runs,): the logarithm of the rate by all runs but one, less that of the rate. `later`:
    the same by the later half of each run. It is below 0 while queues still grow.
    """

    rate: float
    binding: str | None
    shifts: Floats
    later: float = 0.0

    @property
    def error(self) -> float:
        """The relative standard error (delete-one jackknife); infinite of a single run."""
        runs = len(self.shifts)
        if runs < 2:
            return inf
        return sqrt((runs - 1) / runs * float(((self.shifts - self.shifts.mean()) ** 2).sum()))


@dataclass(frozen=True)
class _Tried:
    """A rate, the times of its requests, and the logarithm of their worst ratio to a limit."""

    rate: float
    times: Sequence[RunTimes]
    excess: float


def highest_rate(
    load: SloLoad, model: EngineModel, lengths: Demand, guess: float = 0.0
) -> HighestRate:
    """The highest rate at which all runs together keep all limits, to about 0.1 %.

    The mean of what each run keeps by itself would be too high: where the times rise ever faster
    with the rate, a run with long queues counts there no more than one without. No rate above
    saturation has a steady state, however long it takes until that shows. No rate far above the
    model's reach is looked at.
    """
    seconds = np.array([1 / saturation(model, lengths, run) for run in load.runs])
    reach = 2 * REACH * model.fitted.rate
    most = min(float(1 / seconds.mean()) if seconds.any() else inf, reach)

    def tried(rate: float) -> _Tried:
        times = load.times(model, lengths, rate)
        return _Tried(rate, times, load.excess(times))

    low, high = _bracket(tried, most, min(guess or most / 2, most), 1.05 if guess else 1.5)
    if low is None:
        return HighestRate(0.0, None, np.zeros(len(load.runs)))
    if high is None:
        return _at_most(load, low, None if most == reach else seconds)
    while log(high.rate / low.rate) > _TOLERANCE:
        inside = max(_crossing(low, high), low.rate * exp(_MARGIN))
        middle = tried(min(inside, high.rate * exp(-_MARGIN)))
        low, high = (middle, high) if middle.excess <= 0 else (low, middle)
    return HighestRate(
        _crossing(low, high),
        load.worst(high.times)[1],
        np.array([_shift(load, low, high, _all_but(run)) for run in range(len(load.runs))]),
        _shift(load, low, high, later_halves),
    )


def _at_most(load: SloLoad, most: _Tried, seconds: Floats | None) -> HighestRate:
    """The highest rate there is. `seconds` (runs,): of a request at saturation, if it is that.

    At saturation the times grow with the run, so limits near them are kept because it is short.
    """
    shifts, later = np.zeros(len(load.runs)), 0.0
    if seconds is not None:
        shifts = -np.log(_without_each(seconds))
        later = -inf if most.excess > -_NEAR else 0.0
    return HighestRate(most.rate, load.worst(most.times)[1], shifts, later)


def _without_each(seconds: Floats) -> Floats:
    """The mean (n,) of all numbers but one, over the mean of all; 1 of a single one."""
    n = len(seconds)
    return (n - seconds / seconds.mean()) / (n - 1) if n > 1 else np.ones(1)


def _crossing(low: _Tried, high: _Tried) -> float:
    """The rate between the two at which the limits are met."""
    return low.rate * exp(log(high.rate / low.rate) * low.excess / (low.excess - high.excess))


def _shift(load: SloLoad, low: _Tried, high: _Tried, part: Part) -> float:
    """How far the rate moves if only a part of the times counts, by the slope of all of them."""
    place = low.excess / (low.excess - high.excess)
    slope = (high.excess - low.excess) / log(high.rate / low.rate)
    there = (1 - place) * load.excess(part(low.times)) + place * load.excess(part(high.times))
    return -there / slope


def _all_but(left_out: int) -> Part:
    """All runs but one; of a single run, that run."""

    def part(times: Sequence[RunTimes]) -> Sequence[RunTimes]:
        return [*times[:left_out], *times[left_out + 1 :]] or times

    return part


def _bracket(
    tried: Callable[[float], _Tried], most: float, guess: float, factor: float
) -> tuple[_Tried | None, _Tried | None]:
    """A rate that keeps the limits and a higher one that does not, about `factor` apart.

    There is no higher one where `most` keeps them, and no lower one where none above 0.1 % of
    `most` does.
    """
    low: _Tried | None = None
    high: _Tried | None = None
    rate = guess
    while low is None or high is None:
        there = tried(rate)
        if there.excess > 0:
            high, rate = there, rate / factor
        elif rate == most:
            return there, None
        else:
            low, rate = there, min(rate * factor, most)
        if rate < _LEAST_SHARE * most:
            break
    return low, high
