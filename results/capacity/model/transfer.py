"""The step time of a variant from another's structure and a little data of its own.

Two variants of one model do the same work in a step, each at its own speed. So a coefficient is
the other's times a ratio: about one ratio for what the weights take, and about one for the cache.
Where the variant's own steps show a coefficient, they decide; where they do not, the ratio of its
part does. Ratios are normal beforehand (`PART`, `WITHIN`), none below zero. A draw takes one of the
other's draws, segments of the own steps drawn with replacement, and ratios moved by chance. Source:
randomize-then-optimize, Bardsley et al., SIAM J. Sci. Comput. 36 (2014), exact for linear models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from foundation.arrays import Floats
from foundation.run.records import VariantRecord
from results.capacity.model.engine_model import EngineModel, LoadRange
from results.capacity.model.nonnegative import NormalEquations
from results.capacity.model.step_fit import DRAWS, StepFit, range_of, robust, weighted_equations
from results.capacity.model.steps import Steps

PART = 0.5
"""The standard deviation of the ratio of a part about 1."""
WITHIN = 0.25
"""The standard deviation of a coefficient's ratio about that of its part."""
OPEN = 0.1
"""A structure is needed where half the interval of a step's time is more than this share of it."""
SAME_SIZE = 1.1
"""Weights of one model differ by no more than this, with an adapter or without."""
_PART_OF = np.array([0, 0, 0, 1, 1])  # weights: fixed, per decode, per prompt token; else cache
_PARTS = 2
_LEAST_VARIANCE = 1e-8


@dataclass(frozen=True)
class FittedModel:
    """A model, and the steps that it was fitted to."""

    model: EngineModel
    data: Steps


def in_structures(
    fits: Mapping[str, FittedModel | str], variants: Sequence[VariantRecord]
) -> dict[str, EngineModel | str]:
    """The model of each variant: its own, or in the structure of one whose data reach further.

    A str says why there is none. The structure is that of the variant with the largest batch among
    variants of the same model whose own data fix what their largest steps take.
    """
    records = {variant.name: variant for variant in variants}
    known = {
        name: fit.model
        for name, fit in fits.items()
        if isinstance(fit, FittedModel) and not is_open(fit.model, fit.model.fitted)
    }
    return {
        name: fit
        if isinstance(fit, str)
        else _in_structure(
            fit,
            {
                other: model
                for other, model in known.items()
                if other != name and is_same_model(records[name], records[other], records)
            },
        )
        for name, fit in fits.items()
    }


def is_same_model(
    one: VariantRecord, other: VariantRecord, records: Mapping[str, VariantRecord]
) -> bool:
    """Whether two variants have the same layers: by what they were quantized from, or by size.

    Of a server elsewhere nobody knows that.
    """
    if "url" in (one.kind, other.kind):
        return False
    roots = [records.get(each.unquantized or each.name, each) for each in (one, other)]
    if roots[0].name == roots[1].name:
        return True
    sizes = [each.size_bytes for each in roots if each.weight_bits is None and each.size_bytes]
    return len(sizes) == len(roots) and max(sizes) <= SAME_SIZE * min(sizes)


def _in_structure(own: FittedModel, others: Mapping[str, EngineModel]) -> EngineModel:
    if not others:
        return own.model
    other = max(others, key=lambda each: others[each].fitted.decodes)
    if not lacks(own.model, others[other]):
        return own.model
    fit = transferred(own.data, others[other], other)
    notes = [note for note in own.model.notes if note not in own.model.steps.notes]
    return replace(
        own.model,
        steps=fit.steps,
        draws=fit.draws,
        residual=fit.residual,
        fitted=fit.fitted,
        notes=(*fit.notes, *notes),
    )


def transferred(steps: Steps, other: EngineModel, name: str, seed: int = 0) -> StepFit:
    """The step time of a variant with these steps, at least one, in the structure of another.

    `name`: that of the other variant, for the note.
    """
    rng, jump = np.random.default_rng(seed), other.steps.jump
    steps = steps.without(jump) if jump else steps
    steps = replace(steps, free_tokens=other.steps.free_tokens)
    own, keep = robust(steps, np.ones(len(_PART_OF), np.bool_))
    inside = steps.where(keep)
    equations = weighted_equations(inside, own)
    precision = _precision(inside, own)
    best = other.steps.coefficients[None]
    bases = other.draws if len(other.draws) else np.repeat(best, DRAWS, axis=0)
    m, n = len(bases), len(equations)
    drawn = equations.sums(rng.multinomial(n, np.full(n, 1 / n), size=m).astype(float))
    noise = rng.standard_normal((m, len(_PART_OF) + _PARTS))
    whole = equations.sums(np.ones((1, n)))
    times = _solved(whole, best, precision, np.zeros((1, noise.shape[1])))[0]
    modelled = inside.work @ times
    return StepFit(
        steps=other.steps.with_coefficients(times),
        draws=_solved(drawn, bases, precision, noise),
        residual=float(np.std(inside.elapsed / modelled - 1)),
        fitted=_larger(range_of(inside), other.fitted),
        notes=(
            f"its own load leaves open what a step takes; it is taken to be in proportion to "
            f"{name}, as far as its own steps do not show it",
            *other.steps.notes,
        ),
    )


def lacks(own: EngineModel, other: EngineModel) -> bool:
    """Whether a model's own data leave open what the largest steps of another's data take.

    They do where they are not nearly as large, and where the interval of such a step is wide. A
    slower engine has no other steps, so the rate does not count.
    """
    largest = replace(other.fitted, rate=0.0)
    return largest.beyond(own.fitted) is not None or is_open(own, largest)


def is_open(model: EngineModel, at: LoadRange) -> bool:
    """Whether a model's draws leave the time of the largest steps of a range open."""
    decoding = [1.0, at.decodes, 0.0, at.kv_tokens, 0.0]
    prompts = [1.0, 0.0, at.prefill_tokens, 0.0, at.prefill_tokens * at.context / 2]
    times = model.draws @ model.steps.columns(np.array([decoding, prompts])).T
    low, middle, high = np.percentile(times, (2.5, 50, 97.5), axis=0)
    return bool((high - low > 2 * OPEN * middle).any())


def _precision(steps: Steps, own: Floats) -> float:
    """What a step weighs: 1 over its variance, times the steps that chance treats as one."""
    error = steps.elapsed / (steps.work @ own) - 1
    alone = float(np.sum(error**2))
    together = float(np.sum(np.bincount(steps.segments(), error) ** 2))
    variance = max(alone / len(steps), _LEAST_VARIANCE)
    return 1 / (variance * max(1.0, together / alone if alone else 1.0))


def _solved(data: NormalEquations, base: Floats, precision: float, noise: Floats) -> Floats:
    """The coefficients (m, 5) from data and prior. `base` (m, 5): the other's. `noise` (m, 7).

    The unknowns are the ratio of each coefficient to `base`, then the ratios of the parts.
    """
    k = base.shape[1]
    prior = np.zeros((k + _PARTS, k + _PARTS))
    prior[:k, :k] = np.eye(k) / WITHIN
    prior[np.arange(k), k + _PART_OF] = -1 / WITHIN
    prior[k:, k:] = np.eye(_PARTS) / PART
    target = noise + np.append(np.zeros(k), np.full(_PARTS, 1 / PART))
    gram = np.repeat((prior.T @ prior)[None], len(base), axis=0)
    gram[:, :k, :k] += precision * data.gram * base[:, :, None] * base[:, None, :]
    cross = target @ prior
    cross[:, :k] += precision * data.cross * base
    ratios = NormalEquations(gram, cross, np.zeros(len(base))).solved()
    return np.asarray(ratios[:, :k] * base)


def _larger(one: LoadRange, other: LoadRange) -> LoadRange:
    """The larger of the two, kind by kind."""
    sizes = {each.name: (getattr(one, each.name), getattr(other, each.name))
             for each in fields(LoadRange)}  # fmt: skip
    return LoadRange(**{name: max(pair) for name, pair in sizes.items()})
