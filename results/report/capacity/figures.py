"""The figures of a plan other than rates and costs: the day and the front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from markupsafe import Markup

from foundation.arrays import Floats
from foundation.format import capital
from results.capacity.plan.capacity_plan import CapacityPlan, DayPlan, VariantCapacity
from results.capacity.plan.merits import deciding_cost
from results.metrics import RECORDS
from results.report.figures.day import Day, replicas_over_day
from results.report.figures.front import FrontLabels, FrontPoint, pareto_front


def day_figure(plan: CapacityPlan, slots: Mapping[str, int]) -> tuple[str, Markup] | None:
    """Replicas over the day of the recommended variant, else of the first with a day's plan."""
    days = {v.variant: v.day for v in plan.variants if v.day is not None and v.day.parts}
    if not days:
        return None
    name = plan.recommended if plan.recommended in days else next(iter(days))
    return name, replicas_over_day(_day(name, slots.get(name, 0), days[name]))


def _day(name: str, slot: int, of: DayPlan) -> Day:
    parts = of.parts

    def column(values: Sequence[float | None]) -> Floats:
        return np.array(values, float)

    return Day(
        name,
        slot,
        column([part.begins for part in parts]),
        parts[-1].begins + parts[-1].hours,
        column([part.fleet.rate for part in parts]),
        column([part.running for part in parts]),
        column([part.fleet.fewest for part in parts]),
        column([part.fleet.replicas for part in parts]),
        float(max(part.fleet.replicas for part in parts)),
    )


def front_figure(plan: CapacityPlan, slots: Mapping[str, int]) -> Markup | None:
    """Quality against cost and latency; None where fewer than two variants have both of a pane."""
    beaten_by = {point.variant: point.beaten_by for point in plan.pareto}
    points = [
        FrontPoint(
            v.variant,
            slots.get(v.variant, 0),
            v.merits.quality,
            v.merits.latency,
            msgspec.structs.replace(
                v.merits.cost_per_million, value=deciding_cost(v.merits.cost_per_million)
            ),
            beaten_by.get(v.variant),
        )
        for v in plan.variants
        if v.merits is not None and v.merits.quality.value is not None
    ]
    others = [[p.cost.value for p in points], [p.latency.value for p in points]]
    if all(sum(value is not None for value in values) < 2 for values in others):
        return None
    label = capital(RECORDS[_latency_metric(plan.variants)].label)
    return pareto_front(points, FrontLabels(label, "Cost per million requests"))


def _latency_metric(variants: Sequence[VariantCapacity]) -> str:
    return next(v.merits.latency_metric for v in variants if v.merits is not None)
