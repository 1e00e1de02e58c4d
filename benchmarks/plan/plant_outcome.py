"""What the engine model, the plan and the search know of one plant of known truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log
from time import process_time

import numpy as np

from benchmarks.plan.calibrated import Calibrated, calibrated, coefficient_errors
from benchmarks.plan.plant_search import SearchedPlant
from benchmarks.plan.plants import EmulatedPlant, drawn_plant
from benchmarks.plan.search_coverage import bisected, searched
from benchmarks.plan.truth import LONG, Objective, Truth, drawn_objective, true_capacity
from results.capacity.model.engine_model import EngineModel
from results.capacity.search.posterior import RateRange
from results.capacity.simulation.held_rate import HeldRate, held_rate
from results.config import Slo

BISECTED = 4
"""Plants of each kind that are bisected too, which takes three times as long as the search."""
_LONGER = 4
"""A truth near the end of an interval is measured again, with so many times the requests."""


@dataclass(frozen=True)
class PlantOutcome:
    """What was learned of the plant `number` of a kind; None where something is not known.

    `error`: the largest error of a coefficient, as a part of a typical step. `truth`: its capacity.
    `planned`, `stamped`: the rates held by the model from the engine record, and from
    the stamps. `holds`, `fails`: the ends of the search's interval. `rates`: those of its probes.
    `bisection`: the probes of a bisection, of the first `BISECTED` plants of a kind.
    `seconds`: what all of it took of one core.
    """

    kind: str
    number: int
    error: float | None
    truth: Truth
    planned: HeldRate
    stamped: float | None
    holds: float | None
    fails: float | None
    rates: Sequence[float]
    bisection: int | None
    seconds: float

    @property
    def plan_misses_by(self) -> float | None:
        """How far the truth is outside the plan's interval, a share; None where it says no rate."""
        low, high = self.planned.low, self.planned.high
        return None if low is None else self.truth.outside(low, high)

    @property
    def plan_width(self) -> float | None:
        """The width of the plan's interval over its middle; None where it has one end only."""
        return _width(self.planned.low, self.planned.high)

    @property
    def search_misses_by(self) -> float:
        """How far the truth is outside the search's interval, as a share of it."""
        return self.truth.outside(self.holds, self.fails)

    @property
    def search_width(self) -> float | None:
        """The width of the search's interval over its middle; None where it has one end only."""
        return _width(self.holds, self.fails)

    @property
    def stamps_apart(self) -> float | None:
        """How far the plan from stamps is off the plan from the record."""
        if self.stamped is None or not self.planned.rate or self.planned.lower_bound:
            return None
        return abs(self.stamped / self.planned.rate - 1)


def plant_outcome(kind: str, number: int) -> PlantOutcome:
    """Calibrates, plans and searches one plant, and measures its capacity on the emulator."""
    began = process_time()
    emulated = drawn_plant(kind, number)
    objective = drawn_objective(emulated)
    known = calibrated(emulated)
    planned = _planned(known.recorded, emulated, objective)
    stamped = _planned(without_draws(known.stamped_with_limits), emulated, objective)
    truth = true_capacity(emulated, objective, planned.rate or 1.0)
    plant = SearchedPlant(emulated, objective, truth.rate)
    prior = RateRange(planned.low, planned.high) if planned.low and planned.high else None
    max_rate = truth.rate * exp(emulated.rng(5).uniform(log(1.5), log(30.0)))
    run = searched(plant, max_rate, emulated.rng(6), prior)
    if truth.is_near(planned.low, planned.high, run.outcome.holds, run.outcome.fails):
        truth = true_capacity(emulated, objective, truth.rate, LONG * _LONGER)
    return PlantOutcome(
        kind=kind,
        number=number,
        error=_error(known, emulated),
        truth=truth,
        planned=planned,
        stamped=None if stamped.lower_bound else stamped.rate,
        holds=run.outcome.holds,
        fails=run.outcome.fails,
        rates=[probe.rate for probe in run.probes],
        bisection=bisected(plant, max_rate, emulated.rng(6)) if number < BISECTED else None,
        seconds=process_time() - began,
    )


def without_draws(model: EngineModel | str) -> EngineModel | str:
    """The model without what tells the interval of its rate, which takes most of the time."""
    return model if isinstance(model, str) else replace(model, draws=model.draws[:0])


def _planned(model: EngineModel | str, emulated: EmulatedPlant, objective: Objective) -> HeldRate:
    if isinstance(model, str):
        return HeldRate(reason=model)
    slo = Slo({objective.metric: f"{objective.limit_ms}ms"})
    return held_rate(model, emulated.demand(emulated.rng(4)), slo, seed=1)


def _error(known: Calibrated, emulated: EmulatedPlant) -> float | None:
    if isinstance(known.recorded, str):
        return None
    return float(np.abs(coefficient_errors(known.recorded, emulated)).max())


def _width(low: float | None, high: float | None) -> float | None:
    if not low or not high:
        return None
    return 2 * (high - low) / (high + low)
