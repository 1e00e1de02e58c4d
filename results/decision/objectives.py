"""The objectives of a variant, and how a value is held against a limit.

Two wrong decisions are possible, and each is kept at 5 %. SHIP needs every objective shown to hold,
so each may be tested at 5 %. DON'T SHIP needs only one shown to fail, so k objectives share the 5 %
(Bonferroni): each is tested at 5 % / k. A run that is judged again and again as it grows shares the
5 % among the looks as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite, nan
from typing import Literal

from foundation.format import change, dollars, limit_text, percent
from results.config import BudgetConfig, Limit, QualityConfig
from results.inputs import RunInputs
from results.metrics import METRICS
from results.race import ErrorShares
from results.summary import Estimate, Judged, Outcome

ALPHA = 0.05


@dataclass(frozen=True)
class ObjectiveSpec:
    """One objective.

    `limit` is in the metric's unit, or a factor of the baseline's value where `relative`.
    """

    key: str
    kind: Literal["slo", "quality", "budget"]
    metric: str
    label: str
    unit: str
    better: Literal["lower", "higher"]
    limit: float
    text: str
    relative: bool = False


def objective_specs(inputs: RunInputs, variant: str) -> list[ObjectiveSpec]:
    """Every objective of a variant.

    What is relative to the baseline is not asked of the baseline itself.
    """
    specs = [_slo(metric, limit) for metric, limit in inputs.slo.limits.items()]
    specs += _quality(inputs.quality)
    specs += _budget(inputs.budget) if inputs.budget else []
    return [spec for spec in specs if not (spec.relative and variant == inputs.baseline)]


def _quality(quality: QualityConfig) -> list[ObjectiveSpec]:
    """The floors under the score, and under the changes of the score and the probes."""
    specs = []
    if quality.min is not None:
        text = f"at least {limit_text(quality.min, percent)}"
        specs.append(_floor("quality", "quality", quality.min, text))
    drops = [("quality_change", "quality", quality.max_drop)]
    drops += [(f"probe:{probe.name}", probe.name, probe.max_drop) for probe in quality.probes]
    for key, name, drop in drops:
        if drop is not None:
            spec = _floor(key, f"{name} against the baseline", -drop, _drop_text(drop))
            specs.append(replace(spec, relative=True))
    return specs


def _floor(key: str, label: str, limit: float, text: str) -> ObjectiveSpec:
    return ObjectiveSpec(key, "quality", key, label, "share", "higher", limit, text)


def _drop_text(drop: float) -> str:
    if drop == 0:
        return "not under the baseline"
    unit = "percentage point" if drop == 0.01 else "percentage points"
    return f"no more than {drop * 100:g} {unit} under the baseline"


def _budget(budget: BudgetConfig) -> list[ObjectiveSpec]:
    """The caps on the cost of a month, and on its increase."""
    specs = []
    if budget.per_month is not None:
        key, text = "cost_per_month", f"{limit_text(budget.per_month, dollars)} a month"
        specs.append(
            ObjectiveSpec(
                key, "budget", key, "cost per month", "$", "lower", budget.per_month, text
            )
        )
    if budget.max_increase is not None:
        key, text = "cost_increase", f"at most {limit_text(budget.max_increase, change)}"
        label, most = "cost per request against the baseline", budget.max_increase
        specs.append(ObjectiveSpec(key, "budget", key, label, "share", "lower", most, text, True))
    return specs


def _slo(metric: str, limit: Limit) -> ObjectiveSpec:
    definition = METRICS[metric]
    value = limit.absolute if limit.absolute is not None else limit.relative
    assert value is not None
    return ObjectiveSpec(
        metric,
        "slo",
        metric,
        definition.label,
        definition.unit,
        definition.better,
        value,
        limit.text,
        relative=limit.absolute is None,
    )


@dataclass(frozen=True)
class Tails:
    """The probabilities with which the pessimistic and the optimistic bound may be wrong."""

    pessimistic: float
    optimistic: float

    @classmethod
    def of(cls, objectives: int, looks: int = 1) -> Tails:
        """Alpha spent evenly over the looks: a union bound, valid for any dependence of looks."""
        return cls(ALPHA / looks, ALPHA / looks / max(objectives, 1))

    @classmethod
    def in_race(cls, errors: ErrorShares, objectives: int) -> Tails:
        """What a race lets one variant's verdict spend; its objectives share the second."""
        return cls(errors.ship, errors.breaks / max(objectives, 1))


def fixed_limit(spec: ObjectiveSpec) -> float:
    """The limit in the metric's unit; NaN if it depends on the baseline's value."""
    return nan if spec.kind == "slo" and spec.relative else spec.limit


def undecided(value: Estimate, limit: float, reason: str) -> Judged:
    """Nothing to decide on, and why."""
    return Judged(value=value, limit=limit if isfinite(limit) else None, reason=reason)


def outcome_of(spec: ObjectiveSpec, judged: Judged) -> Outcome:
    """The outcome of an objective.

    It holds if the pessimistic bound keeps the limit, and fails if the optimistic one breaks it. A
    bound is never enough if the value itself lies on the other side.
    """
    value, limit = judged.value.value, judged.limit
    if judged.reason is not None or limit is None or value is None:
        return "unsettled"
    sign = 1 if spec.better == "lower" else -1

    def keeps(number: float) -> bool:
        return sign * number <= sign * limit

    if judged.pessimistic is not None and keeps(judged.pessimistic) and keeps(value):
        return "holds"
    if judged.optimistic is not None and not keeps(judged.optimistic) and not keeps(value):
        return "fails"
    return "unsettled"
