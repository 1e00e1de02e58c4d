"""When to invest in fine-tuning: what each tuned variant gives, costs and saves, and the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from foundation.format import between, capital, difference, dollars, significant
from results.capacity.plan.capacity_plan import CapacityPlan, Investment
from results.capacity.plan.merits import scaled
from results.metrics import RECORDS
from results.report.capacity.table import Fact, FactCell, FactTable, estimate_fact, fact_table
from results.report.figures.investment import Payback, cumulative_dollars
from results.summary import Estimate

PAYBACK = (
    "Each line begins at what tuning cost and rises by what a month saves; the band is the 95 % "
    "interval of the saving. Where it crosses zero, tuning has paid for itself."
)


@dataclass(frozen=True)
class InvestmentSection:
    """The answers by variant, the numbers side by side, and the dollars month by month.

    `absent`: why there is no figure, or "".
    """

    lead: str
    sentences: list[tuple[str, str]]
    table: FactTable
    plot: Markup | None
    caption: str
    absent: str


def investment_section(plan: CapacityPlan, slots: Mapping[str, int]) -> InvestmentSection | None:
    """The section of a plan; None where no variant was tuned."""
    if not plan.investments:
        return None
    first, plot = plan.investments[0], _figure(plan.investments, slots)
    latency = RECORDS[first.latency_metric].label
    rows = [(label, "", [read(e) for e in plan.investments]) for label, read in _rows(latency)]
    return InvestmentSection(
        lead=(
            f"Each tuned variant against {first.instead_of}, at {significant(first.rate)} "
            "requests/s of traffic all month."
        ),
        sentences=[(each.variant, each.sentence) for each in plan.investments],
        table=fact_table([each.variant for each in plan.investments], rows),
        plot=plot,
        caption=PAYBACK,
        absent="" if plot else "No figure: no variant has both a price of tuning and a saving.",
    )


def _changed(estimate: Estimate, unit: str) -> FactCell:
    """A difference to the baseline, with its sign and its interval."""
    if estimate.value is None:
        return estimate.reason
    low, high = estimate.low, estimate.high
    known = low is not None and high is not None
    around = between(difference(low or 0.0, unit), difference(high or 0.0, unit)) if known else ""
    return Fact(difference(estimate.value, unit), around)


def _tuning(each: Investment) -> FactCell:
    if each.tuning_cost is None:
        return "what tuning cost is not known; write budget.tuning"
    return Fact(dollars(each.tuning_cost))


def _rows(latency: str) -> tuple[tuple[str, Callable[[Investment], FactCell]], ...]:
    return (
        ("Does it pay?", lambda each: Fact(each.answer)),
        ("Quality", lambda each: _changed(each.quality, "share")),
        (capital(latency), lambda each: _changed(each.latency, "ms")),
        ("Tokens a month", lambda each: _changed(scaled(each.tokens, 1e-6), "million")),
        ("Saved a month", lambda each: _changed(each.saved, "$")),
        ("Tuning, once", _tuning),
        ("Months to break even", lambda each: estimate_fact(each.months, "")),
    )


def _figure(investments: Sequence[Investment], slots: Mapping[str, int]) -> Markup | None:
    """Dollars by month; None where no variant has both a cost of tuning and a saving."""
    known = [
        Payback(each.variant, slots.get(each.variant, 0), each.tuning_cost, each.saved, each.months)
        for each in investments
        if each.tuning_cost is not None and each.saved.value is not None
    ]
    return cumulative_dollars(known) if known else None
