"""Prints a capacity plan in the report's words: all variants side by side, and the answer."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dyno.terminal.results import print_lines, show_validity
from foundation.format import dollars, rate_text, significant
from results.capacity.plan.capacity_plan import CapacityPlan, VariantCapacity, WhatIf, WhatIfVariant
from results.report.capacity.table import Fact, FactTable
from results.report.capacity.words import SCALED, capacity_words

NONE = "-"


def show_capacity(console: Console, plan: CapacityPlan) -> None:
    """Prints the table, a line for each variant, what else is known, and the recommendation."""
    words = capacity_words(plan)
    print_lines(console, [f"{plan.name}: {words.lead}"])
    console.print(_table(words.table))
    print_lines(console, _pairs(words.sentences))
    _section(console, "a day", [line for v in plan.variants for line in _day(v)])
    _section(console, "from what traffic on", words.break_even)
    if words.scaled:
        console.print(_scaled_table(words.scaled))
    for answer in plan.what_if:
        console.print(_answer_table(answer))
    _section(console, "fine-tuning", _pairs(words.investments))
    _section(console, "audit", words.audits)
    _section(console, "what the plan does not know", _pairs(words.unknown))
    show_validity(console, plan.validity)
    console.print(f"\n{words.answer}", style="bold", markup=False, highlight=False, soft_wrap=True)


def _section(console: Console, title: str, lines: Sequence[str]) -> None:
    if lines:
        console.print(title, style="bold", highlight=False)
        print_lines(console, lines)


def _pairs(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Lines of pairs of a name, or "", and a sentence."""
    return [f"{name}: {sentence}" if name else sentence for name, sentence in pairs]


def _table(facts: FactTable) -> Table:
    """A row for each fact, a column for each variant."""
    table = Table("", header_style="bold")
    for name in facts.variants:
        table.add_column(Text(name), justify="right", overflow="fold")
    for row in facts.rows:
        label = f"{row.label}, {row.unit}" if row.unit else row.label
        table.add_row(label, *map(_cell, row.cells))
    notes = [f"{number}: {reason}" for number, reason in enumerate(facts.notes, start=1)]
    table.caption = Text("\n".join(notes)) if notes else None
    table.caption_justify = "left"
    return table


def _cell(fact: Fact) -> Text:
    """A value above what stands under it."""
    value = Text(f"{fact.value} [{fact.note}]" if fact.note else fact.value)
    return Text.assemble(value, "\n", (fact.under, "dim")) if fact.under else value


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


def _scaled_table(rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table(title="estimates for hardware that was not measured", title_justify="left")
    numbers = SCALED[2:-1]
    for heading in SCALED:
        table.add_column(heading, justify="right" if heading in numbers else "left")
    for row in rows:
        table.add_row(*map(Text, row))
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
        f"at least {rate_text(low)}/s"
        if high is None
        else f"{rate_text(low)} to {rate_text(high)}/s",
        str(row.peak.replicas),
        NONE if month is None else f"${month:,.0f}",
        {"holds": "holds", "fails": "does not hold", "unsettled": "not known whether it holds"}[
            row.holds
        ]
        if row.holds
        else "",
    ]
