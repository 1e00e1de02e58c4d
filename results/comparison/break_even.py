"""The traffic at which a fine-tuned variant has paid for its tuning and its evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from foundation.format import dollars
from foundation.run.journal import Damage
from foundation.run.json_files import read_json
from foundation.run.records import VariantRecord
from results.config import BudgetConfig
from results.inputs import RunInputs
from results.statistics.intervals import absent
from results.summary import BreakEven, Estimate, VariantSummary

TUNED = ("adapter", "merged", "quantized")


def break_evens(inputs: RunInputs, variants: Sequence[VariantSummary]) -> dict[str, BreakEven]:
    """By variant; only of those that were tuned, and only where a budget gives prices."""
    records = {record.name: record for record in inputs.variants}
    tuned = [
        v for v in variants if records[v.variant].kind in TUNED and v.variant != inputs.baseline
    ]
    return (
        {
            v.variant: _break_even(v, inputs.budget, tuning_seconds(inputs, records[v.variant]))
            for v in tuned
        }
        if inputs.budget
        else {}
    )


class _Trained(msgspec.Struct):
    seconds: Annotated[float, msgspec.Meta(ge=0)] | None = None


def tuning_seconds(inputs: RunInputs, record: VariantRecord) -> float | Damage | None:
    """The time, in seconds, of the trainings that a variant rests on; None if it rests on none.

    Source: `adapters/NAME/tunedyno.json`. A run of an earlier version does not say which adapters
    a variant rests on, so all of the run's count.
    """
    is_recorded = any(each.adapters for each in inputs.variants)
    files = inputs.run.glob("adapters/*/tunedyno.json")
    every = sorted(str(file.relative_to(inputs.run)) for file in files)
    names = [f"{folder}/tunedyno.json" for folder in record.adapters] if is_recorded else every
    trained = [read_json(inputs.run, name, _Trained) for name in names]
    if damaged := [each for each in trained if isinstance(each, Damage)]:
        return damaged[0]
    known = [
        each.seconds for each in trained if isinstance(each, _Trained) and each.seconds is not None
    ]
    return sum(known) if known and len(known) == len(names) else None


def _break_even(
    variant: VariantSummary, budget: BudgetConfig, seconds: float | Damage | None
) -> BreakEven:
    cost = _tuning_cost(variant, budget, None if isinstance(seconds, Damage) else seconds)
    change = (
        variant.differences["cost_per_request"].absolute
        if "cost_per_request" in variant.differences
        else absent("not compared")
    )
    if cost is None:
        why = f" ({seconds})" if isinstance(seconds, Damage) else ""
        return _never(
            None,
            f"{variant.variant}: what tuning cost is not known{why}; write budget.tuning, in "
            "dollars",
        )
    if change.value is None:
        return _never(
            cost, f"{variant.variant}: the cost per request was not compared ({change.reason})"
        )
    if change.value >= 0:
        return _never(
            cost,
            f"{variant.variant} saves nothing per request, so tuning ({dollars(cost)}) is not "
            "earned back by cost",
        )
    requests = Estimate(
        value=-cost / change.value,
        low=-cost / change.low if change.low is not None and change.low < 0 else None,
        high=-cost / change.high if change.high is not None and change.high < 0 else None,
        n=change.n,
        reason=None
        if change.high is not None and change.high < 0
        else "it is not shown that anything is saved",
    )
    months = (
        requests.value / budget.requests_per_month
        if budget.requests_per_month and requests.value
        else None
    )
    when = f", {months:.1f} months of the stated traffic" if months is not None else ""
    return BreakEven(
        tuning_cost=cost,
        requests=requests,
        months=months,
        sentence=(
            f"{variant.variant}: {dollars(cost)} of tuning and evaluation are earned back after "
            f"{requests.value:,.0f} requests{when}, at {dollars(-change.value)} saved on each"
            f"{'' if requests.reason is None else ', which is not shown yet'}"
        ),
    )


def _tuning_cost(
    variant: VariantSummary, budget: BudgetConfig, seconds: float | None
) -> float | None:
    """The stated cost, else training and the variant's own measurement at the price of an hour."""
    if budget.tuning is not None:
        return budget.tuning
    if seconds is None or budget.price.accelerator_hour is None:
        return None
    price = budget.price
    measured = sum(
        stage.window_s * stage.replicas * price.accelerators_of(stage.accelerators)
        for stage in variant.stages
    )
    return (seconds * price.accelerators_of(None) + measured) / 3600 * budget.price.accelerator_hour


def _never(cost: float | None, sentence: str) -> BreakEven:
    return BreakEven(tuning_cost=cost, requests=absent(sentence), months=None, sentence=sentence)
