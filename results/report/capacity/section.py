"""The section "Capacity plan" of the page: its words, its figures, and why a figure is absent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from results.capacity.plan.capacity_plan import CapacityPlan
from results.report.capacity.audits import AuditLine, audit_lines
from results.report.capacity.costs import cost_figure
from results.report.capacity.figures import day_figure, front_figure
from results.report.capacity.rates import rate_figures
from results.report.capacity.words import CapacityWords, capacity_words

_RATES = (
    "Markers are measured, with their 95 % intervals. The upright shade is the interval of what "
    "one replica holds within the SLO. A marker at the top edge lies beyond it, at the value "
    "beside it; a pale one does not count."
)
_MODEL = " The line is the model with its band. The model knows nothing in the hatched part."
_COSTS = (
    "What to rent, in whole replicas with headroom and spares; the band goes down to what it would "
    "be if a replica held the upper end of its interval. A marker: from this "
    "traffic on, the variant is the cheapest."
)
_DAY = (
    "The line: replicas that run, those included that start for the hours after. The band: the "
    "interval of the replicas that the traffic needs."
)
_FRONT = (
    "A pale variant is beaten: another one is as good in quality, latency and cost, and better in "
    "one of them. Costs go by the lower end of what a replica holds. The dotted steps are the best "
    "quality for the money, and for the latency; whiskers are 95 % intervals."
)


@dataclass(frozen=True)
class DrawnPart:
    """A figure with its title and caption."""

    title: str
    plot: Markup
    caption: str


@dataclass(frozen=True)
class CapacitySection:
    """All that the page says of a plan.

    `rates`: small figures, by variant, that stand side by side. `audits`: each in words, with
    its lines where it was measured. `absent`: the figures that are not there, each with its reason.
    """

    words: CapacityWords
    rates: list[tuple[str, Markup]]
    rates_caption: str
    drawn: list[DrawnPart]
    audits: list[tuple[str, list[AuditLine]]]
    absent: list[str]


def capacity_section(plan: CapacityPlan, slots: Mapping[str, int]) -> CapacitySection:
    """The section of a plan; `slots`: each variant's place, which decides its colour."""
    words, rates = capacity_words(plan), rate_figures(plan.variants, slots)
    drawn, absent = _drawn(plan, slots)
    names = {name for name, _ in rates}
    without = ", ".join(v.variant for v in plan.variants if v.variant not in names)
    if without:
        absent.insert(0, f"latency by rate of {without}: no model, and not two rates measured")
    audits = [
        (sentence, audit_lines(each, slots))
        for sentence, each in zip(words.audits, plan.audits, strict=True)
    ]
    caption = _RATES + _MODEL * any(v.curve is not None for v in plan.variants)
    return CapacitySection(words, rates, caption, drawn, audits, absent)


def _drawn(plan: CapacityPlan, slots: Mapping[str, int]) -> tuple[list[DrawnPart], list[str]]:
    """The figures over all variants that there is data for, and why the others are absent."""
    drawn, absent = [], []
    costs, day, front = cost_figure(plan, slots), day_figure(plan, slots), front_figure(plan, slots)
    if costs is None:
        absent.append("cost by traffic: no variant has both a rate and a price")
    else:
        drawn.append(DrawnPart("Cost a month by traffic", costs, _COSTS))
    if day is None:
        absent.append("replicas over a day: the plan has no traffic of a day")
    else:
        drawn.append(DrawnPart(f"Replicas of {day[0]} over a day", day[1], _DAY))
    if front is None:
        absent.append("the Pareto front: fewer than two variants have a quality and a cost")
    else:
        drawn.append(DrawnPart("Quality, cost and latency", front, _FRONT))
    return drawn, absent
