"""Prints a capacity plan: all variants side by side, and the sentence that recommends one."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dyno.terminal.results import print_lines, show_validity
from foundation.format import dollars, quantity, significant
from results.capacity.plan.capacity_plan import (
    CapacityPlan,
    Merits,
    ScaledCapacity,
    VariantCapacity,
    WhatIf,
    WhatIfVariant,
)
from results.capacity.plan.merits import deciding_cost
from results.summary import Estimate

NONE = "-"


def show_capacity(console: Console, plan: CapacityPlan) -> None:
    """Prints the table, a line for each variant, what else is known, and the recommendation."""
    console.print(_table(plan))
    print_lines(console, [f"{v.variant}: {v.sentence}" for v in plan.variants])
    _section(console, "where the measurement contradicts the model", _contradictions(plan))
    _section(console, "a day", [line for v in plan.variants for line in _day(v)])
    _section(console, "from what traffic on", [each.sentence for each in plan.break_even])
    if plan.scaled:
        console.print(_scaled_table(plan.scaled))
    for answer in plan.what_if:
        console.print(_answer_table(answer))
    _section(
        console, "fine-tuning", [f"{each.variant}: {each.sentence}" for each in plan.investments]
    )
    _section(console, "audit", [each.sentence for each in plan.audits])
    _section(console, "what the plan does not know", _unknown(plan))
    show_validity(console, plan.validity)
    console.print(f"\n{plan.sentence}", style="bold", markup=False, highlight=False, soft_wrap=True)


def _section(console: Console, title: str, lines: Sequence[str]) -> None:
    if lines:
        console.print(title, style="bold", highlight=False)
        print_lines(console, lines)


def _table(plan: CapacityPlan) -> Table:
    mean = f", {plan.mean_rate:g} on average" if plan.mean_rate is not None else ""
    burst = f", bursts of {plan.burst:g} times that" if plan.burst > 1 else ""
    title = (
        f"{plan.name}: {plan.peak_rate:g} requests/s at the peak{mean}{burst}, "
        f"{plan.headroom:.0%} headroom, {plan.spare} spare"
    )
    latency = next((v.merits.latency_metric for v in plan.variants if v.merits), "latency")
    titles = (
        "one replica holds", "by", "replicas", "accelerators", "per month", "missed", "$/million",
        "$/1,000 correct", "J/request", "quality", latency,
    )  # fmt: skip
    rows = [_cells(variant) for variant in plan.variants]
    shown = [i for i in range(len(titles)) if any(row[i] != NONE for row in rows)]
    table = Table("variant", title=title, title_justify="left")
    for i in shown:
        table.add_column(titles[i], justify="right")
    for variant, row in zip(plan.variants, rows, strict=True):
        table.add_row(Text(variant.variant), *(row[i] for i in shown))
    return table


def _cells(variant: VariantCapacity) -> list[str]:
    peak, month = variant.peak, variant.cost_per_month
    return [
        _held(variant),
        variant.source or NONE,
        NONE if variant.replicas is None else str(variant.replicas),
        NONE if peak is None else str(peak.accelerators),
        NONE if month is None else f"${month:,.0f}",
        NONE if peak is None else _risk(peak.miss),
        *_merits(variant.merits),
    ]


def _merits(merits: Merits | None) -> list[str]:
    if merits is None:
        return [NONE] * 5
    million, correct = (
        deciding_cost(merits.cost_per_million),
        deciding_cost(merits.cost_per_correct),
    )
    joules, quality, latency = (
        each.value for each in (merits.joules_per_request, merits.quality, merits.latency)
    )
    return [
        NONE if million is None else dollars(million),
        NONE if correct is None else dollars(correct * 1e3),
        NONE if joules is None else significant(joules),
        NONE if quality is None else quantity(quality, "share"),
        NONE if latency is None else quantity(latency, "ms"),
    ]


def _held(variant: VariantCapacity) -> str:
    rate = variant.rate
    if variant.rate_per_replica is None:
        return NONE
    if variant.lower_bound:
        return f"at least {variant.rate_per_replica:.3g}/s"
    if rate.value is None:
        return f"{variant.rate_per_replica:.3g} to {rate.high:.3g}/s"
    return f"{rate.value:.3g}/s ({variant.rate_per_replica:.3g} to {rate.high:.3g})"


def _risk(miss: Estimate) -> str:
    if miss.value is None:
        return NONE if miss.high is None else f"≤ {quantity(miss.high, 'share')}"
    return "< 0.1 %" if miss.value < 1e-3 else quantity(miss.value, "share")


def _contradictions(plan: CapacityPlan) -> list[str]:
    return [f"{v.variant}: {v.contradiction}" for v in plan.variants if v.contradiction]


def _day(variant: VariantCapacity) -> list[str]:
    day = variant.day
    if day is None:
        return []
    running = [part.running for part in day.parts]
    price = ""
    if day.cost_per_month is not None and day.constant_cost is not None:
        price = f", {dollars(day.cost_per_month)} a month instead of {dollars(day.constant_cost)}"
    return [
        f"{variant.variant}: {min(running)} to {max(running)} replicas, "
        f"{significant(day.replica_hours)} replica-hours instead of "
        f"{significant(day.constant_hours)}{price}"
    ]


def _scaled_table(rows: Sequence[ScaledCapacity]) -> Table:
    table = Table(
        "variant",
        title="estimates for hardware that was not measured",
        title_justify="left",
    )
    for heading in ("accelerator", "replicas", "per month", "$/million", "rule"):
        table.add_column(heading, justify="left" if heading == "rule" else "right")
    for row in rows:
        month, million = row.peak.cost_per_month, deciding_cost(row.cost_per_million)
        table.add_row(
            Text(row.variant),
            Text(row.accelerator),
            f"~{row.peak.replicas}",
            NONE if month is None else f"~${month:,.0f}",
            NONE if million is None else f"~{dollars(million)}",
            Text(f"x {row.factor:.3g} {row.rule}"),
        )
    return table


def _answer_table(answer: WhatIf) -> Table:
    table = Table("variant", title=Text(f"what if {answer.question}"), title_justify="left")
    for heading in ("one replica holds", "replicas", "per month", ""):
        table.add_column(heading, justify="right" if heading else "left")
    for row in answer.variants:
        table.add_row(Text(row.variant), *_answer_cells(row))
    return table


def _answer_cells(row: WhatIfVariant) -> list[str | Text]:
    low, high = row.rate.low, row.rate.high
    if row.peak is None or low is None:
        return [NONE, NONE, NONE, Text(row.reason or "")]
    month = row.peak.cost_per_month
    return [
        f"at least {low:.3g}/s" if high is None else f"{low:.3g} to {high:.3g}/s",
        str(row.peak.replicas),
        NONE if month is None else f"${month:,.0f}",
        {"holds": "holds", "fails": "does not hold", "unsettled": "not known whether it holds"}[
            row.holds
        ]
        if row.holds
        else "",
    ]


def _unknown(plan: CapacityPlan) -> list[str]:
    """Notes on the plan, then those on variants, each once with the names of its variants."""
    variants: dict[str, list[str]] = {}
    for variant in plan.variants:
        for note in variant.notes:
            if note != variant.contradiction:
                variants.setdefault(note, []).append(variant.variant)
    return [*plan.notes, *(f"{', '.join(names)}: {note}" for note, names in variants.items())]
