"""A step that takes longer from some number of requests on: a change point in the batch size.

An engine has one where a batch outgrows what was captured or tuned for it. Above the point every
step takes `factor` times its time. It is looked for only where steps are far off their sum, and
counts only where it foretells steps that the fit has not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np
from scipy.optimize import minimize_scalar

from foundation.arrays import Flags, Floats
from results.capacity.model.engine_model import StepJump
from results.capacity.model.held_out import FOLDS, pays
from results.capacity.model.nonnegative import NormalEquations
from results.capacity.model.steps import Steps

LEAST_FACTOR = 1.1
"""Nothing smaller counts as a jump: a bend or a drift may look like it."""
_MOST_FACTOR = 8.0
_FEWEST = 50
"""Steps on either side of the point."""


@dataclass(frozen=True)
class JumpFit:
    """A jump, and the standard deviation of its factor, as a share of it.

    `gain`: how much it lowers the error of a held-out fold.
    """

    jump: StepJump
    deviation: float
    gain: float


def step_jump(steps: Steps, modelled: Floats) -> JumpFit | None:
    """The jump of steps that should take `modelled` (n,) s without one; None where none pays."""
    cells = _Cells.of(steps, modelled)
    everything = np.ones(FOLDS, np.bool_)
    best = min(
        (cells.best(place, everything) for place in cells.places()),
        key=lambda fit: fit.error,
        default=None,
    )
    if best is None or not LEAST_FACTOR <= best.factor < 0.99 * _MOST_FACTOR:
        return None
    others = [np.arange(FOLDS) != fold for fold in range(FOLDS)]
    gains = np.array([cells.gain(best.place, inside) for inside in others])
    if not pays(gains):
        return None
    logs = np.log([cells.best(best.place, inside).factor for inside in others])
    deviation = sqrt((FOLDS - 1) * float(logs.var()))  # jackknife
    jump = StepJump(int(cells.requests[best.place]), best.factor)
    return JumpFit(jump, deviation, float(gains.mean()))


@dataclass(frozen=True)
class _AtPlace:
    """The best fit with the jump above the requests of this place."""

    place: int
    factor: float
    error: float


@dataclass(frozen=True)
class _Cells:
    """Normal equations by the requests in a step, of which there are r numbers, and by fold.

    `requests` (r,): rising. `count` (r,): steps. `gram` (r, `FOLDS`, k, k), `cross` (r, `FOLDS`,
    k) and `square` (r, `FOLDS`) as in `NormalEquations`.
    """

    requests: Floats
    count: Floats
    gram: Floats
    cross: Floats
    square: Floats

    @staticmethod
    def of(steps: Steps, modelled: Floats) -> _Cells:
        """Every step weighs 1 over its modelled time."""
        requests, place = np.unique(steps.requests, return_inverse=True)
        shape = (len(requests), FOLDS)
        cell = place * FOLDS + steps.segments() % FOLDS
        design, target = steps.work / modelled[:, None], steps.elapsed / modelled
        k = design.shape[1]

        def summed(values: Floats) -> Floats:
            return np.bincount(cell, values, shape[0] * shape[1]).astype(np.float64)

        gram = np.stack([summed(design[:, i] * design[:, j]) for i in range(k) for j in range(k)])
        cross = np.stack([summed(design[:, i] * target) for i in range(k)])
        return _Cells(
            requests,
            np.bincount(place).astype(np.float64),
            gram.T.reshape(*shape, k, k),
            cross.T.reshape(*shape, k),
            summed(target**2).reshape(shape),
        )

    def places(self) -> Iterator[int]:
        """The places with enough steps on either side."""
        below = np.cumsum(self.count)
        is_enough = (below >= _FEWEST) & (below[-1] - below >= _FEWEST)
        yield from np.flatnonzero(is_enough).tolist()

    def best(self, place: int, folds: Flags) -> _AtPlace:
        """The best factor, from 1 on, of these folds' steps."""

        def error(log_factor: float) -> float:
            equations = self._equations(place, folds, exp(log_factor))
            return float(equations.errors(equations.solved())[0])

        least = minimize_scalar(error, bounds=(0.0, log(_MOST_FACTOR)), method="bounded")
        return _AtPlace(place, exp(float(least.x)), float(least.fun))

    def gain(self, place: int, inside: Flags) -> float:
        """By how much the jump lowers the error of the folds that are not `inside`."""
        factor = self.best(place, inside).factor
        errors = []
        for each in (1.0, factor):
            fitted = self._equations(place, inside, each).solved()
            errors.append(float(self._equations(place, ~inside, each).errors(fitted)[0]))
        return errors[0] - errors[1]

    def _equations(self, place: int, folds: Flags, factor: float) -> NormalEquations:
        """Of all steps of these folds; the work of those above the place counts `factor` times."""
        times = np.where(np.arange(len(self.requests)) > place, factor, 1.0)
        gram, cross = self.gram[:, folds].sum(axis=1), self.cross[:, folds].sum(axis=1)
        return NormalEquations(
            np.tensordot(times**2, gram, axes=1)[None],
            (times @ cross)[None],
            self.square[:, folds].sum(keepdims=True).reshape(1),
        )
