"""What the experiment asks of a variant, and how an objective is held against its limit; `judging` has the bounds.

Two wrong decisions are possible, and each is kept at 5 %. SHIP needs every objective shown to hold, so each may be tested at 5 %.
DON'T SHIP needs only one shown to fail, so k objectives share the 5 % (Bonferroni): each is tested at 5 % / k. A run that is
judged again and again as it grows shares the 5 % among the looks as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, nan
from typing import Literal

from foundation.format import change, dollars, limit_text, percent
from results.config import Limit
from results.inputs import RunInputs
from results.metrics import METRICS
from results.summary import Estimate, Judged, Outcome

ALPHA = 0.05


@dataclass(frozen=True)
class Asked:
    """One objective. `limit` is in the metric's unit, or a factor of the baseline's value where `relative`."""

    key: str
    kind: Literal["slo", "quality", "budget"]
    metric: str
    label: str
    unit: str
    better: Literal["lower", "higher"]
    limit: float
    text: str
    relative: bool = False


def asked_of(inputs: RunInputs, variant: str) -> list[Asked]:
    """Every objective of a variant. What is relative to the baseline is not asked of the baseline itself."""
    found = [_slo(metric, limit) for metric, limit in inputs.slo.limits.items()]
    quality, budget = inputs.quality, inputs.budget
    if quality.min is not None:
        found.append(
            Asked(
                "quality",
                "quality",
                "quality",
                "quality",
                "share",
                "higher",
                quality.min,
                f"at least {limit_text(quality.min, percent)}",
            )
        )
    drops = [("quality_change", "quality", quality.max_drop)]
    drops += [(f"probe:{probe.name}", probe.name, probe.max_drop) for probe in quality.probes]
    for key, name, drop in drops:
        if drop is not None:
            label, text = (
                f"{name} against the baseline",
                "not under the baseline"
                if drop == 0
                else f"no more than {drop * 100:g} percentage point{'' if drop == 0.01 else 's'} under the baseline",
            )
            found.append(
                Asked(key, "quality", key, label, "share", "higher", -drop, text, relative=True)
            )
    if budget and budget.per_month is not None:
        text = f"{limit_text(budget.per_month, dollars)} a month"
        found.append(
            Asked(
                "cost_per_month",
                "budget",
                "cost_per_month",
                "cost per month",
                "$",
                "lower",
                budget.per_month,
                text,
            )
        )
    if budget and budget.max_increase is not None:
        text = f"at most {limit_text(budget.max_increase, change)}"
        found.append(
            Asked(
                "cost_increase", "budget", "cost_increase", "cost per request against the baseline", "share", "lower",
                budget.max_increase, text, relative=True,
            )
        )  # fmt: skip
    return [asked for asked in found if not (asked.relative and variant == inputs.baseline)]


def _slo(metric: str, limit: Limit) -> Asked:
    definition = METRICS[metric]
    value = limit.absolute if limit.absolute is not None else limit.relative
    assert value is not None
    return Asked(
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
        """Alpha spent evenly over the looks: a union bound, which holds however the looks depend on one another."""
        return cls(ALPHA / looks, ALPHA / looks / max(objectives, 1))


def fixed_limit(asked: Asked) -> float:
    """The limit in the metric's unit where it does not hang on the baseline's value; NaN where it does."""
    return nan if asked.kind == "slo" and asked.relative else asked.limit


def undecided(value: Estimate, limit: float, reason: str) -> Judged:
    """Nothing to decide on, and why."""
    return Judged(value=value, limit=limit if isfinite(limit) else None, reason=reason)


def outcome_of(asked: Asked, judged: Judged) -> Outcome:
    """Held against the limit: the pessimistic bound must keep it to hold, the optimistic one must break it to fail.

    A bound is never enough where the value itself lies on the other side.
    """
    value, limit = judged.value.value, judged.limit
    if judged.reason is not None or limit is None or value is None:
        return "unsettled"
    sign = 1 if asked.better == "lower" else -1

    def keeps(number: float) -> bool:
        return sign * number <= sign * limit

    if judged.pessimistic is not None and keeps(judged.pessimistic) and keeps(value):
        return "holds"
    if judged.optimistic is not None and not keeps(judged.optimistic) and not keeps(value):
        return "fails"
    return "unsettled"
