"""Chooses the loads that fix the coefficients of a step-time model best: D-optimal, greedily.

A load's information is that of its steps, with relative errors: one of each step, and one that all
steps of a load share. The next load is the one that adds most to the logarithm of the determinant,
for each second it takes. Source: Fedorov, Theory of Optimal Experiments (1972), sequential designs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from foundation.arrays import Floats
from results.capacity.model.engine_model import COEFFICIENTS, Scheduler, StepTime
from results.capacity.model.loads import ModelLoad, StepKinds, sized, steps_of

OVERHEAD_S = 1.0
"""What a load takes beside its steps: connections, and the last answers."""
LARGEST_PART = 1 / 4
"""No load takes more than this part of the time that is left, unless nothing else fits."""
_NOT_FIXED = 1e-6
_SIZES: tuple[Callable[[ModelLoad], int], ...] = (
    lambda load: load.in_flight,
    lambda load: load.context,
)


@dataclass(frozen=True)
class RelativeErrors:
    """Standard deviations of step times about the model, as shares of a step's time.

    `step`: of each step by itself. `load`: of all steps of a load together.
    """

    step: float = 0.05
    load: float = 0.02


def information(steps: StepKinds, times: StepTime, errors: RelativeErrors) -> Floats:
    """What a load tells about the coefficients, (5, 5): the inverse of their covariance.

    Its rows are for coefficients in s. `times`: a first guess of them.
    """
    relative = times.columns(steps.work) / times.seconds(steps.work)[:, None]
    each, both = errors.step**2, errors.load**2
    alone = (relative.T * steps.count) @ relative
    together = steps.count @ relative
    # Sherman and Morrison: the inverse of each x identity + both x ones.
    shared = both / (each + steps.count.sum() * both)
    return np.asarray((alone - shared * np.outer(together, together)) / each)


def gain(known: Floats, more: Floats, scale: Floats) -> float:
    """How much the logarithm of the determinant grows by more information.

    `scale` (5,): the largest that each coefficient can be, s; that is known from the start.
    """
    both = np.outer(scale, scale)
    before = np.eye(len(scale)) + known * both
    after = before + more * both
    return float(np.linalg.slogdet(after)[1] - np.linalg.slogdet(before)[1])


def not_fixed(info: Floats) -> tuple[str, ...]:
    """The coefficients that so much information leaves open, whatever its amount.

    A coefficient is fixed where its unit vector lies in the range of the matrix.
    """
    scale = np.sqrt(np.diag(info))
    scale = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(info / np.outer(scale, scale))
    null = vectors[:, values < _NOT_FIXED]
    open_part = np.sqrt((null**2).sum(axis=1))
    return tuple(
        name
        for name, part, known in zip(COEFFICIENTS, open_part, np.diag(info), strict=True)
        if known == 0 or part > np.sqrt(_NOT_FIXED)
    )


@dataclass(frozen=True)
class _Choice:
    """A load that can be next, the time it takes, s, and what it tells, (5, 5)."""

    load: ModelLoad
    seconds: float
    told: Floats


@dataclass(frozen=True)
class Design:
    """Chooses loads among `candidates`.

    `times`: a guess of the coefficients, the fixed one above zero. `scheduler`: the server's
    limits.
    """

    candidates: Sequence[ModelLoad]
    times: StepTime
    scheduler: Scheduler
    errors: RelativeErrors = RelativeErrors()

    def seconds(self, load: ModelLoad) -> float:
        """The time that a load takes if the guess is right, s."""
        return steps_of(load, self.scheduler).seconds(self.times) + OVERHEAD_S

    def information(self, loads: Sequence[ModelLoad]) -> Floats:
        """What some loads tell together, (5, 5)."""
        parts = [information(steps_of(each, self.scheduler), self.times, self.errors)
                 for each in loads]  # fmt: skip
        return np.sum(parts, axis=0) if parts else np.zeros((len(COEFFICIENTS),) * 2)

    @property
    def shortest_s(self) -> float:
        """The time of the shortest load to choose from, s; at least one candidate."""
        return min(each.seconds for each in self._choices)

    def next_load(self, done: Sequence[ModelLoad], left_s: float) -> ModelLoad | None:
        """The load that adds most a second to those that are done; None if none fits.

        The first loads reach the server's limits, since a model answers no further than half as
        far again as its data.
        """
        fitting = [each for each in self._choices if each.seconds <= left_s]
        short = [each for each in fitting if each.seconds <= left_s * LARGEST_PART]
        choices = _reaching(short or fitting, done)
        if not choices:
            return None
        known = self.information(done)
        best = max(choices, key=lambda each: gain(known, each.told, self._scale) / each.seconds)
        return best.load

    def loads(self, budget_s: float, done: Sequence[ModelLoad] = ()) -> list[ModelLoad]:
        """All loads that fit into a budget after those that are done, in order."""
        chosen: list[ModelLoad] = []
        while (load := self.next_load([*done, *chosen], budget_s)) is not None:
            chosen.append(load)
            budget_s -= self.seconds(load)
        return chosen

    @cached_property
    def _choices(self) -> Sequence[_Choice]:
        """The candidates, each with as many waves as it needs."""
        loads = [sized(each, self.scheduler, self.times) for each in self.candidates]
        return [_Choice(load, self.seconds(load), self.information([load])) for load in loads]

    @cached_property
    def _scale(self) -> Floats:
        """For each coefficient, its size if it alone made up a step somewhere, s; (5,).

        A coefficient lies between zero and its scale, which is all that is known at first.
        """
        work = np.concatenate([steps_of(each.load, self.scheduler).work for each in self._choices])
        share = self.times.columns(work) / self.times.seconds(work)[:, None]
        return np.asarray(1 / share.max(axis=0))


def _reaching(choices: Sequence[_Choice], done: Sequence[ModelLoad]) -> Sequence[_Choice]:
    """The loads of the largest size that no load has reached yet; all loads if none is left."""
    for size in _SIZES:
        largest = max((size(each.load) for each in choices), default=0)
        if all(size(each) < largest for each in done):
            return [each for each in choices if size(each.load) == largest]
    return choices
