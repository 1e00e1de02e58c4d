"""The variant that a plan recommends: the cheapest within SLO and quality floor."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from foundation.format import dollars, percent
from results.capacity.plan.capacity_plan import VariantCapacity
from results.config import PlanConfig


def recommend(capacities: Sequence[VariantCapacity], plan: PlanConfig) -> tuple[str | None, str]:
    """The variant, and one sentence for it; None and the reason where no variant will do.

    Without prices the fewest accelerators decide. One whose quality is not settled comes after
    those that are shown to keep the floor.
    """
    able = [each for each in capacities if each.peak is not None]
    if not able:
        return None, f"no plan: {'; '.join(f'{c.variant}: {c.reason}' for c in capacities)}"
    kept = [each for each in able if each.quality_floor != "fails"]
    if not kept:
        names = ", ".join(each.variant for each in able)
        return None, f"no variant to recommend: {names} miss the quality that is asked for"
    best = min(kept, key=_order)
    doubt = ", though its quality is not settled" if best.quality_floor == "unsettled" else ""
    return best.variant, f"{_in_words(best, plan)}{_against(best, kept)}{doubt}"


def _order(each: VariantCapacity) -> tuple[bool, float, float, float]:
    """Settled quality first, then cost, then replicas, then more room for traffic, then latency."""
    assert each.peak is not None
    latency = each.merits.latency.value if each.merits else None
    cost = each.cost_per_month if each.cost_per_month is not None else each.peak.cost_per_month
    return (
        each.quality_floor == "unsettled",
        cost if cost is not None else float(each.peak.accelerators),
        -(each.rate.low or 0.0),
        inf if latency is None else latency,
    )


def _in_words(best: VariantCapacity, plan: PlanConfig) -> str:
    peak = best.peak
    assert peak is not None
    cost = "" if best.cost_per_month is None else f", {dollars(best.cost_per_month)} a month"
    most = peak.miss.value if peak.miss.value is not None else peak.miss.high
    at_most = "at most " if peak.miss.value is None else ""
    risk = "" if most is None else f"; the SLO is missed with a probability of {at_most}"
    risk += "" if most is None else ("under 0.1 %" if most < 1e-3 else percent(most))
    return (
        f"{best.variant}: {peak.replicas} replica{'s' if peak.replicas != 1 else ''} "
        f"({peak.accelerators} accelerator{'s' if peak.accelerators != 1 else ''}) for "
        f"{plan.peak:g} requests/s{cost}{risk}"
    )


def _against(best: VariantCapacity, others: Sequence[VariantCapacity]) -> str:
    """The next best, for comparison."""
    rest = [each for each in others if each.variant != best.variant]
    if not rest:
        return ""
    second = min(rest, key=_order)
    assert second.peak is not None
    cost = second.cost_per_month
    price = f"{second.peak.replicas} replicas" if cost is None else f"{dollars(cost)} a month"
    return f" (next: {second.variant}, {price})"
