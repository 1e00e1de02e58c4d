"""The figure of a plan's costs: dollars a month by traffic, and where they break even."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from markupsafe import Markup

from foundation.arrays import Floats
from results.capacity.plan.capacity_plan import (
    HOURS_PER_MONTH,
    BreakEvenRate,
    CapacityPlan,
    VariantCapacity,
)
from results.report.figures.cost_by_traffic import CheapestFrom, CostCurve, cost_by_traffic

_MOST_EDGES = 150
_SMALL = 0.05
"""A break-even point in this share of a linear axis makes it a log one."""


def cost_figure(plan: CapacityPlan, slots: Mapping[str, int]) -> Markup | None:
    """Cost by traffic; None where no variant has a rate and a price, or there is no traffic."""
    if not plan.peak_rate:
        return None
    points = [each for each in plan.break_even if each.rate]
    ends = _ends(plan.peak_rate, [each.rate for each in points if each.rate])
    curves = [curve for v in plan.variants if (curve := _curve(plan, v, ends, slots)) is not None]
    if not curves:
        return None
    changes = [c for each in points if (c := _change(each, curves)) is not None]
    return cost_by_traffic(curves, _together(changes), plan.peak_rate)


def _ends(peak: float, break_even: Sequence[float]) -> tuple[float, float]:
    """The ends of the axis: all break-even points and the peak are inside."""
    high = max(2 * peak, 1.3 * max(break_even, default=0.0))
    least = min([peak, *break_even])
    return (least / 3 if least < _SMALL * high else 0.0), high


def _curve(
    plan: CapacityPlan,
    variant: VariantCapacity,
    ends: tuple[float, float],
    slots: Mapping[str, int],
) -> CostCurve | None:
    """What to rent by traffic; the interval goes by the ends of the held rate."""
    peak, held = variant.peak, variant.rate
    if peak is None or peak.cost_per_month is None or held.low is None:
        return None
    name, slot = variant.variant, slots.get(variant.variant, 0)
    if plan.price_hour is None:
        traffic = np.array(ends)
        cost = traffic * peak.cost_per_month / peak.rate
        return CostCurve(name, slot, traffic, cost, cost, cost)
    month = plan.price_hour * peak.accelerators / peak.replicas * HOURS_PER_MONTH
    used = [held.low, *([] if held.high is None else [held.high])]
    used = [rate * (1 - plan.headroom) / plan.burst for rate in used]
    edges = _edges(used, ends)
    traffic = np.stack([edges[:-1], edges[1:]], axis=1).ravel()
    costs = [(_replicas(edges, each) + plan.spare) * month for each in used]
    return CostCurve(name, slot, traffic, costs[0], costs[-1], costs[0])


def _edges(used: Sequence[float], ends: tuple[float, float]) -> Floats:
    """The traffic (k,) at which one more replica is needed, at most some hundred places."""
    low, high = ends
    jumps = [np.arange(1, high / each) * each for each in used if high / each < _MOST_EDGES]
    if len(jumps) < len(used):
        spread = np.geomspace if low > 0 else np.linspace
        jumps.append(spread(low, high, _MOST_EDGES))
    edges = np.unique(np.concatenate([[low, high], *jumps]))
    return np.asarray(edges[(edges >= low) & (edges <= high)])


def _replicas(edges: Floats, used: float) -> Floats:
    """The replicas right behind an edge and up to the next one, one after the other (2k - 2,)."""
    counts = np.round(edges / used, 9)
    behind, up_to = np.floor(counts[:-1]) + 1, np.maximum(np.ceil(counts[1:]), 1)
    return np.stack([behind, up_to], axis=1).ravel()


def _change(each: BreakEvenRate, curves: Sequence[CostCurve]) -> CheapestFrom | None:
    """The break-even point, where no third variant is cheaper there; None elsewhere."""
    costs = {curve.name: _cost_behind(curve, each.rate or 0.0) for curve in curves}
    cost = costs.get(each.variant)
    if each.rate is None or cost is None or cost > min(costs.values()) * (1 + 1e-9):
        return None
    slot = next(curve.slot for curve in curves if curve.name == each.variant)
    return CheapestFrom(each.variant, slot, each.rate, cost)


def _together(changes: Sequence[CheapestFrom]) -> list[CheapestFrom]:
    """One point for the variants that become the cheapest at the same place."""
    places: dict[tuple[float, float], list[CheapestFrom]] = {}
    for each in changes:
        places.setdefault((round(each.traffic, 9), round(each.cost, 6)), []).append(each)
    return [
        replace(group[0], name=", ".join(dict.fromkeys(each.name for each in group)))
        for group in places.values()
    ]


def _cost_behind(curve: CostCurve, traffic: float) -> float:
    """The cost of slightly more than `traffic`."""
    after = min(int(np.searchsorted(curve.traffic, traffic, side="right")), curve.traffic.size - 1)
    before = max(after - 1, 0)
    pair = [before, after]
    return float(np.interp(traffic, curve.traffic[pair], curve.cost[pair]))
