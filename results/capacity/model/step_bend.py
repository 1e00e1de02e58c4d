"""Tokens that a step computes while it reads the weights: a bend in what it takes by its tokens.

Up to some number of tokens a step takes as long as its weights take to read, and beyond it as long
as the tokens take to compute (the roofline model). It is looked for only where steps are far off
their sum, and counts only where it foretells steps that the fit has not seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from foundation.arrays import Floats
from results.capacity.model.held_out import FOLDS, pays
from results.capacity.model.nonnegative import NormalEquations
from results.capacity.model.steps import Steps

_COARSE, _FINE = 2**0.5, 2**0.125
"""Ratios of the numbers of tokens that are tried: first everywhere, then about the best."""


@dataclass(frozen=True)
class BendFit:
    """A bend after so many free tokens, and how much it lowers the error of a held-out fold."""

    free_tokens: int
    gain: float


def step_bend(steps: Steps, modelled: Floats) -> BendFit | None:
    """The bend of steps that should take `modelled` (n,) s without one; None where none pays."""
    most = float((steps.decodes + steps.prefill_tokens).max())
    equations = {place: _by_fold(steps, modelled, place) for place in _between(1, most, _COARSE)}
    best = min(equations, key=lambda place: _error(equations[place]))
    equations |= {
        place: _by_fold(steps, modelled, place)
        for place in _between(best / _COARSE, best * _COARSE, _FINE)
    }
    best = min(equations, key=lambda place: _error(equations[place]))
    gains = _held_out(_by_fold(steps, modelled, None)) - _held_out(equations[best])
    return BendFit(best, float(gains.mean())) if pays(gains) else None


def _between(low: float, high: float, ratio: float) -> Iterable[int]:
    """Whole numbers from `low` to `high`, each about `ratio` times the one before."""
    count = max(1, round(np.log(high / low) / np.log(ratio))) + 1
    return [int(place) for place in np.unique(np.geomspace(low, high, count).round())]


def _by_fold(steps: Steps, modelled: Floats, free_tokens: int | None) -> NormalEquations:
    """By fold of segments; every step weighs 1 over its modelled time."""
    fold = np.unique(steps.segments() % FOLDS, return_inverse=True)[1]
    work = replace(steps, free_tokens=free_tokens).work
    return NormalEquations.of(work / modelled[:, None], steps.elapsed / modelled, fold)


def _error(folds: NormalEquations) -> float:
    """The error of the best fit to all folds."""
    whole = folds.sums(np.ones((1, len(folds))))
    return float(whole.errors(whole.solved())[0])


def _held_out(folds: NormalEquations) -> Floats:
    """The error of each fold (f,) by the fit to all others."""
    return folds.errors(folds.sums(1 - np.eye(len(folds))).solved())
