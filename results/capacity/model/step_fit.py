"""Fits the step time of an engine to its steps, and says how sure that is.

The coefficients are the least squares of measured over modelled time, none below zero: a short
step counts as much as a long one. Their uncertainty is a bootstrap over segments of time, since
steps near one another share what slows a machine down for a while.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import hypot, sqrt

import numpy as np
from scipy.special import ndtri, stdtrit

from foundation.arrays import Flags, Floats
from foundation.format import percent
from results.capacity.model.engine_model import COEFFICIENTS, LoadRange, StepTime
from results.capacity.model.held_out import FOLDS, pays
from results.capacity.model.misfit import Misfit, misfit
from results.capacity.model.nonnegative import NormalEquations, spread
from results.capacity.model.step_bend import BendFit, step_bend
from results.capacity.model.step_jump import JumpFit, step_jump
from results.capacity.model.steps import Steps

FEWEST_STEPS = 50
"""A step time is fitted to no fewer."""
DRAWS = 200
OUTLIER = 8.0
"""A step is left out if its residual is this many standard deviations, and `LEAST` at least."""
LEAST = 1.0
_ROUNDS = 6
_FLOOR = 0.05  # of the median step: no step is modelled as shorter, so that none weighs all
_ALIKE = 0.8  # the most that segments in a row are taken to err alike: draws lie 3 times as far
_MANY = 0.1  # of the steps left out: they are no outliers
_UNSURE = 0.3  # of a step's time
_WORDS = ("the step", "requests that decode", "prompt tokens", "the KV cache", "attention")
_BENT_WORDS = ("the step", "that tokens are decoded", "tokens", "the KV cache", "attention")


@dataclass(frozen=True)
class StepFit:
    """The step time of an engine: the best fit, and m as likely ones (`draws`, (m, 5)).

    `residual`: the standard deviation of measured over modelled time, less 1. `fitted`: the largest
    load among the steps. `notes`: what the steps could not show.
    """

    steps: StepTime
    draws: Floats
    residual: float
    fitted: LoadRange
    notes: tuple[str, ...]


def fit_steps(steps: Steps, seed: int = 0) -> StepFit | str:
    """The step time of these steps; a str says why there is none."""
    steps = steps.where(steps.elapsed > 0)
    if len(steps) < FEWEST_STEPS:
        return f"{len(steps)} steps are known, and a step time needs {FEWEST_STEPS}"
    fit, worst = _fitted(steps, seed)
    if worst.note is None:
        return fit
    best, keep = robust(steps, _used_columns(steps))
    inside = steps.where(keep)
    modelled = _floored(inside.work @ best, inside.elapsed)
    shapes = [step_bend(inside, modelled), step_jump(inside, modelled)]
    shape = max((each for each in shapes if each), key=lambda each: each.gain, default=None)
    return fit if shape is None else _shaped(steps, seed, shape)


def _shaped(steps: Steps, seed: int, shape: BendFit | JumpFit) -> StepFit:
    """The fit of a sum with a bend or a jump."""
    if isinstance(shape, BendFit):
        fit, _ = _fitted(replace(steps, free_tokens=shape.free_tokens), seed)
        times = replace(fit.steps, free_tokens=shape.free_tokens)
    else:
        fit, _ = _fitted(steps.without(shape.jump), seed, shape.deviation)
        times = replace(fit.steps, jump=shape.jump)
    return replace(fit, steps=times, notes=(*fit.notes, *times.notes))


def _fitted(steps: Steps, seed: int, deviation: float = 0.0) -> tuple[StepFit, Misfit]:
    """The fit of a sum, and what it is off. `deviation`: of a factor on steps, beside that."""
    rng = np.random.default_rng(seed)
    used = _used_columns(steps)
    best, keep = robust(steps, used)
    equations = weighted_equations(steps.where(keep), best)
    if used[-1] and not _last_pays(equations):
        used[-1] = False
        best, keep = robust(steps, used)
        equations = weighted_equations(steps.where(keep), best)
    inside = steps.where(keep)
    equations = equations.of_columns(used)
    modelled = _floored(inside.work @ best, inside.elapsed)
    residual = float(np.std(inside.elapsed / modelled))
    loose = equations.loose(residual, len(inside))
    wider = _wider(_errors_in_time(inside, modelled))
    draws = spread(_bootstrap(equations, best, wider, rng), loose, rng)
    worst = misfit(inside, modelled)
    draws *= np.exp(hypot(worst.deviation, deviation) * rng.standard_normal((DRAWS, 1)))
    best = spread(np.tile(best, (DRAWS, 1)), loose, rng).mean(axis=0)
    notes = (
        *_left_out_notes(steps, keep),
        *_missing_notes(inside),
        *_unsure_notes(inside, draws),
        *([worst.note] if worst.note else []),
    )
    return StepFit(StepTime(*best.tolist()), draws, residual, range_of(inside), notes), worst


def _used_columns(steps: Steps) -> Flags:
    """The coefficients (5,) that have data."""
    return np.asarray((steps.work > 0).any(axis=0))


def robust(steps: Steps, used: Flags) -> tuple[Floats, Flags]:
    """The coefficients (5,), and the mask (n,) of the steps that are no outliers."""
    work, elapsed = steps.work * used, steps.elapsed
    keep = np.ones(len(steps), np.bool_)
    modelled = np.full(len(steps), float(np.median(elapsed)))
    best = np.zeros(work.shape[1])
    for _ in range(_ROUNDS):
        rows, weight = np.flatnonzero(keep), 1 / modelled[keep]
        one = np.zeros(len(rows), np.int64)
        design, target = work[rows] * weight[:, None], elapsed[rows] * weight
        best = NormalEquations.of(design, target, one).solved()[0]
        modelled = _floored(work @ best, elapsed)
        error = elapsed / modelled - 1
        centre = float(np.median(error))
        deviation = 1.4826 * float(np.median(np.abs(error - centre)))
        keep = np.abs(error - centre) <= max(OUTLIER * deviation, LEAST)
    return best, keep


def _floored(modelled: Floats, elapsed: Floats) -> Floats:
    return np.maximum(modelled, _FLOOR * float(np.median(elapsed)))


def weighted_equations(steps: Steps, best: Floats) -> NormalEquations:
    """By segment; every step weighs 1 over its modelled time."""
    weight = 1 / _floored(steps.work @ best, steps.elapsed)
    return NormalEquations.of(
        steps.work * weight[:, None], steps.elapsed * weight, steps.segments()
    )


def _last_pays(equations: NormalEquations) -> bool:
    """Whether the last coefficient lowers the error of steps that the fit has not seen."""
    fold = np.arange(len(equations)) % FOLDS
    held = (fold == np.arange(min(FOLDS, len(equations)))[:, None]).astype(np.float64)
    outside, inside = equations.sums(1 - held), equations.sums(held)
    without = np.array([True] * (len(COEFFICIENTS) - 1) + [False])
    error = inside.errors(outside.of_columns(without).solved())
    gain = error - inside.errors(outside.solved())
    return pays(gain)


def _bootstrap(
    equations: NormalEquations, best: Floats, wider: float, rng: np.random.Generator
) -> Floats:
    """Coefficients (`DRAWS`, 5) that segments drawn with replacement would give.

    What a draw changes is the score, the part of each segment that the best fit leaves over,
    `wider` times: so no coefficient has to be moved below 0 by hand.
    """
    n = len(equations)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=DRAWS).astype(np.float64)
    return equations.moved(best, wider * (counts - 1)).solved()


def _wider(errors: Floats) -> float:
    """How much further than a bootstrap's the draws lie from the best fit.

    `errors` (n,): the mean relative error of each segment, in the order of time. So few segments
    vary too little: by Student's t over the normal, and by the bias of the variance. Where segments
    in a row err alike, since the machine or the load drifts, they are worth fewer.
    """
    n = len(errors)
    few = sqrt(n / (n - 1)) * float(stdtrit(n - 1, 0.975) / ndtri(0.975))
    error = errors - errors.mean()
    alike = float(error[1:] @ error[:-1] / (error @ error)) if error.any() else 0.0
    alike = min(alike, _ALIKE) if alike > ndtri(0.975) / sqrt(n) else 0.0
    return few * sqrt((1 + alike) / (1 - alike))


def _errors_in_time(steps: Steps, modelled: Floats) -> Floats:
    """The mean relative error of each segment, in the order of time."""
    segment, count = steps.segments(), np.bincount(steps.segments())
    error = np.bincount(segment, steps.elapsed / modelled - 1) / count
    return np.asarray(error[np.argsort(np.bincount(segment, steps.ended) / count)])


def range_of(steps: Steps) -> LoadRange:
    """The largest load among the steps, at least one."""
    return LoadRange(
        decodes=float(steps.decodes.max()),
        prefill_tokens=float(steps.prefill_tokens.max()),
        context=steps.context,
        kv_tokens=float(steps.kv_tokens.max()),
        rate=steps.rate,
    )


def _left_out_notes(steps: Steps, keep: Flags) -> Iterator[str]:
    count = int((~keep).sum())
    if not count:
        return
    time = percent(float(steps.elapsed[~keep].sum() / steps.elapsed.sum()))
    words = f"{count:,} of {len(steps):,} steps, {time} of their time, are far off the model"
    many = "; the model does not describe this engine well" if count > _MANY * len(steps) else ""
    yield f"{words} and left out{many}"


def _missing_notes(steps: Steps) -> Iterator[str]:
    if not steps.decodes.any():
        yield "no step decodes, so the time of a decoding request is not known"
    if not steps.prefill_tokens.any():
        yield "no step computes a prompt, so the time of a prompt token is not known"


def _unsure_notes(steps: Steps, draws: Floats) -> Iterator[str]:
    """Names the coefficients whose part of a step's time is anything within a wide range."""
    parts = draws * (steps.work / steps.elapsed[:, None]).mean(axis=0)
    low, high = np.percentile(parts, (2.5, 97.5), axis=0)
    words = _WORDS if steps.free_tokens is None else _BENT_WORDS
    names = [word for word, width in zip(words, high - low, strict=True) if width > _UNSURE]
    if names:
        yield f"the loads hardly tell apart what takes the time: {', '.join(names)}"
