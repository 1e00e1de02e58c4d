"""Answers what-if questions beside a plan, for every variant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from foundation.format import dollars
from results.capacity.plan.capacity_plan import (
    HOURS_PER_MONTH,
    CapacityPlan,
    Fleet,
    VariantCapacity,
    WhatIf,
    WhatIfVariant,
)
from results.capacity.plan.catalogue import Catalogue
from results.capacity.plan.fleet import miss
from results.capacity.plan.plan import PlanBasis, plan_capacity
from results.capacity.plan.questions import PlanQuestion
from results.capacity.plan.replica_rate import ModelledRate
from results.config import BudgetConfig
from results.inputs import RunInputs
from results.summary import Outcome, Summary

Models = Mapping[str, ModelledRate | str]


@dataclass(frozen=True)
class WhatIfEvidence:
    """Where answers come from.

    `summary`: of the same journals under other limits. `models`: by variant, for the requests that
    the question asks of, under the limits of this summary and these inputs.
    """

    summary: Callable[[RunInputs], Summary]
    models: Callable[[Summary, RunInputs, PlanQuestion], Models]


def what_if(
    question: PlanQuestion, inputs: RunInputs, basis: PlanBasis, evidence: WhatIfEvidence
) -> WhatIf:
    """The plan under the question's changes. `inputs.plan` must be there.

    Where the requests themselves change, only models answer: other requests were measured.
    """
    assert inputs.plan is not None
    changed = replace(
        inputs,
        plan=question.plan(inputs.plan),
        slo=question.slo(inputs.slo),
        budget=_budget(question, inputs.budget),
    )
    summary = evidence.summary(changed)
    same = changed.slo == inputs.slo and not question.needs_model
    other = PlanBasis(
        models=basis.models if same else evidence.models(summary, changed, question),
        searches=basis.searches if same else {},
        catalogue=_catalogue(question, basis.catalogue),
        audits=basis.audits,
        requests=question.requests({v.name: v.prompt_style for v in inputs.variants}),
    )
    plan = plan_capacity(summary, changed, other)
    rows = [_row(each, plan, question.replicas) for each in plan.variants]
    return WhatIf(question=question.text, variants=rows, sentence=_sentence(rows))


def _budget(question: PlanQuestion, budget: BudgetConfig | None) -> BudgetConfig | None:
    """The budget with another price of an accelerator's hour."""
    if budget is None or budget.price.accelerator_hour is None or not question.of("price"):
        return budget
    hour = question.price(budget.price.accelerator_hour)
    price = budget.price.model_copy(update={"accelerator_hour": hour})
    return budget.model_copy(update={"price": price})


def _catalogue(question: PlanQuestion, catalogue: Catalogue | None) -> Catalogue | None:
    """The catalogue with another price of the measured accelerator."""
    if catalogue is None:
        return None
    accelerators = tuple(
        each.model_copy(update={"price_hour": question.price(each.price_hour)})
        if each.measured
        else each
        for each in catalogue.accelerators
    )
    return catalogue.model_copy(update={"accelerators": accelerators})


def _row(capacity: VariantCapacity, plan: CapacityPlan, replicas: int | None) -> WhatIfVariant:
    peak, holds = capacity.peak, None
    if peak is not None and replicas is not None:
        peak = _with(replicas, peak, capacity, plan)
        holds = _holds(capacity, plan.peak_rate * plan.burst / replicas)
    return WhatIfVariant(
        variant=capacity.variant,
        rate=capacity.rate,
        peak=peak,
        holds=holds,
        reason=capacity.reason,
    )


def _with(replicas: int, peak: Fleet, capacity: VariantCapacity, plan: CapacityPlan) -> Fleet:
    """The fleet of so many replicas, all of which serve the peak."""
    assert capacity.source is not None
    accelerators = replicas * (peak.accelerators // peak.replicas)
    hour = peak.cost_per_hour if plan.price_hour is None else accelerators * plan.price_hour
    return msgspec.structs.replace(
        peak,
        replicas=replicas,
        accelerators=accelerators,
        likely=None,
        fewest=None,
        miss=miss(capacity.rate, capacity.source, plan.peak_rate * plan.burst / replicas),
        cost_per_hour=hour,
        cost_per_month=None if hour is None else hour * HOURS_PER_MONTH,
    )


def _holds(capacity: VariantCapacity, load: float) -> Outcome:
    """Whether one replica holds `load` requests/s."""
    low, high = capacity.rate.low, capacity.rate.high
    if low is not None and load <= low:
        return "holds"
    return "fails" if high is not None and load >= high else "unsettled"


_HOLD = {
    "holds": "hold the peak",
    "fails": "do not hold the peak",
    "unsettled": "may hold the peak or not",
}


def _sentence(rows: Sequence[WhatIfVariant]) -> str:
    return "; ".join(f"{row.variant}: {_words(row)}" for row in rows)


def _words(row: WhatIfVariant) -> str:
    if row.peak is None:
        return row.reason or "no rate"
    cost = row.peak.cost_per_month
    price = "" if cost is None else f", {dollars(cost)} a month"
    count = f"{row.peak.replicas} replica{'s' if row.peak.replicas != 1 else ''}"
    return f"{count}{f' {_HOLD[row.holds]}' if row.holds else ''}{price}"
