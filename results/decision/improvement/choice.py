"""Chooses what a round changes: the variant that is nearest to shipping, and its remedies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf

from foundation.format import percent
from foundation.yaml_values import YamlValue
from results.decision.advice import binding_case, remedies_for
from results.decision.binding_case import BindingCase, Remedy
from results.decision.improvement.expectation import (
    ExpectedRemedy,
    expect,
    is_floor,
    on_metric,
)
from results.decision.improvement.record import KnownEffect, SkippedRemedy
from results.decision.verdict import binding_of
from results.inputs import RunInputs
from results.summary import Summary, VariantVerdict, Verdicts


@dataclass(frozen=True)
class Knowledge:
    """What a choice rests on beside the verdict.

    `offered`: remedies that the experiment offers itself. `effects`: what was measured before.
    `is_new`: whether no variant of these keys was measured yet, whatever its name. `predict`: the
    remedy as a model of the engine expects it; the same one where there is none.
    """

    offered: Sequence[Remedy] = ()
    effects: Sequence[KnownEffect] = ()
    is_new: Callable[[dict[str, YamlValue]], bool] = lambda keys: True
    predict: Callable[[BindingCase, Remedy], Remedy] = lambda case, remedy: remedy


@dataclass(frozen=True)
class RemedyChoice:
    """The remedies for one variant: to try, in order, and those that are not tried."""

    case: BindingCase
    remedies: Sequence[ExpectedRemedy]
    skipped: Sequence[SkippedRemedy]


def nearest_first(summary: Summary, verdicts: Verdicts) -> list[VariantVerdict]:
    """The variants that may be improved, the one with the least to gain first.

    The baseline is what tuning is held against: it is improved only where it is alone.
    """
    stages = {each.variant: each.at_judged_stage for each in summary.variants}
    alone = len(verdicts.variants) == 1

    def is_open(verdict: VariantVerdict) -> bool:
        stage = stages[verdict.variant]
        return (
            (alone or not verdict.is_baseline)
            and verdict.decision != "SHIP"
            and bool(verdict.objectives)
            and verdict.variant not in summary.failed
            and stage is not None
            and stage.validity.level != "INVALID"
        )

    return sorted(filter(is_open, verdicts.variants), key=_distance)


def _distance(verdict: VariantVerdict) -> float:
    """How far the worst objective is beyond its limit, as a share of it."""
    margins = [o.margin for o in verdict.objectives if o.outcome != "holds"]
    return max((inf if margin is None else -margin for margin in margins), default=0.0)


def choose(
    verdict: VariantVerdict,
    summary: Summary,
    inputs: RunInputs,
    knowledge: Knowledge,
) -> RemedyChoice | None:
    """The remedies of a variant and those that the experiment offers, in the order to try them.

    None without an objective that binds.
    """
    variant = next(v for v in summary.variants if v.variant == verdict.variant)
    stage, binding = variant.at_judged_stage, binding_of(verdict.objectives)
    if stage is None or binding is None:
        return None
    case = binding_case(variant, stage, binding, summary, inputs)
    skipped, good = [], []
    for remedy in [*remedies_for(case), *knowledge.offered]:
        variant_keys = remedy.patch.variant if remedy.patch else None
        if variant_keys is not None and not knowledge.is_new(dict(variant_keys)):
            continue
        expected = expect(knowledge.predict(case, remedy), case.about, knowledge.effects)
        if why := _why_not(expected, verdict, case):
            skipped.append(SkippedRemedy(remedy=remedy.words.remedy, why=why))
        else:
            good.append(expected)
    return RemedyChoice(case, sorted(good, key=partial(_rank, case)), skipped)


def _rank(case: BindingCase, expected: ExpectedRemedy) -> tuple[bool, float, float]:
    """The smaller, the sooner it is tried.

    What is expected to keep the limit comes first, and of that what costs the least of the score:
    merging an adapter before a smaller model. All else goes by its effect, none where nobody knows.
    """
    factor = expected.factor
    is_enough = factor is not None and factor <= _needed(case)
    return not is_enough, -expected.keeps if is_enough else 0.0, 1.0 if factor is None else factor


def _needed(case: BindingCase) -> float:
    """The largest factor that brings what binds to its limit; 0 where nobody knows it.

    The bound that decides a verdict counts: what is not settled does not keep its limit yet. A
    score is no cost of itself: where quality binds, nothing is enough, and the effect decides.
    """
    limit, estimate, floor = case.binding.limit, case.binding.value, is_floor(case.binding)
    bound = estimate.low if floor else estimate.high
    value = estimate.value if bound is None else bound
    if case.binding.kind == "quality" or not limit or not value:
        return 0.0
    return on_metric(limit / value, floor)


def _why_not(expected: ExpectedRemedy, verdict: VariantVerdict, case: BindingCase) -> str | None:
    """Why a remedy is not tried; None where it is worth a measurement."""
    remedy = expected.remedy
    if remedy.patch is None or remedy.patch.variant is None:
        return f"only people can do it: {remedy.words.effect}"
    if expected.factor is not None and expected.factor >= 1:
        return "it is not expected to help"
    return None if case.about in ("quality", "change") else _score_too_low(expected, verdict, case)


def _score_too_low(
    expected: ExpectedRemedy, verdict: VariantVerdict, case: BindingCase
) -> str | None:
    """Why the score is expected under a floor that it keeps now; None where it is not."""
    score = case.variant.metrics["quality"].value
    for objective in verdict.objectives:
        limit, value = objective.limit, objective.value.value
        floors = objective.metric in ("quality", "quality_change")
        if not floors or score is None or limit is None or value is None or value < limit:
            continue
        after = value - score * (1 - expected.keeps)
        if after < limit:
            return (
                f"{objective.label} is expected at {percent(after)}, under its limit of "
                f"{percent(limit)}"
            )
    return None
