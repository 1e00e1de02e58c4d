"""Prints a capacity plan in the report's words: all variants side by side, and the answer.

What only concerns variants that the plan does not recommend stays in `plan.json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dyno.terminal.lines import print_line, print_lines, print_notes
from foundation.format import dollars, rate_text, significant
from results.capacity.plan.capacity_plan import CapacityPlan, VariantCapacity, WhatIf, WhatIfVariant
from results.report.capacity.table import Fact, FactTable
from results.report.capacity.words import SCALED, capacity_words

NONE = "-"


def show_capacity(console: Console, plan: CapacityPlan, file: Path) -> None:
    """Prints the table, what else is known, and the recommendation. `file`: the plan's own."""
    words = capacity_words(plan)
    print_line(console, f"{plan.name}: {words.lead}")
    console.print(_table(words.table))
    print_notes(console, words.table.notes, [*_more_may_be_held(plan), *words.table.remarks])
    _section(console, "a day", [line for v in plan.variants for line in _day(v)])
    _section(console, "break-even", words.break_even)
    if words.scaled:
        console.print(_scaled_table(words.scaled))
    for answer in plan.what_if:
        console.print(_answer_table(answer))
    _section(console, "fine-tuning", _pairs(words.investments))
    _section(console, "audit", words.audits)
    _section(console, "what the plan does not know", _doubts(plan, words.unknown))
    console.print(f"all of it: {file}", markup=False, highlight=False, soft_wrap=True)
    console.print()
    print_line(console, words.answer, hanging="", style="bold")


def _more_may_be_held(plan: CapacityPlan) -> list[str]:
    """What the sign of a lower bound means, where the table has one."""
    bounded = [v.variant for v in plan.variants if v.lower_bound and v.rate_per_replica is not None]
    if not bounded:
        return []
    return [f"≥: more may be held, by {', '.join(bounded)}: no rate is known to break the SLO."]


def _doubts(plan: CapacityPlan, unknown: Sequence[tuple[str, str]]) -> list[str]:
    """What of the unknown bears on the recommended variant, and how much on others alone.

    Everything, where no variant is recommended.
    """
    lines = [(names.split(", ") if names else [], line) for names, line in unknown]
    if plan.validity.level != "VALID":
        for reason in plan.validity.reasons:
            lines.append((_variants_in(reason, plan), reason))
    shown = [
        (names, line)
        for names, line in lines
        if plan.recommended is None or not names or plan.recommended in names
    ]
    words = [
        f"{', '.join(names)}: {line}" if names and not _variants_in(line, plan) else line
        for names, line in shown
    ]
    if more := len(lines) - len(shown):
        words.append(f"{more} more of variants that are not recommended")
    return words


def _variants_in(reason: str, plan: CapacityPlan) -> list[str]:
    """The variant that a reason for doubt begins with; none for one of the whole run."""
    return [v.variant for v in plan.variants if reason.startswith(f"{v.variant}, ")]


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
    rows = [_answer_cells(row) for row in answer.variants]
    has_words = any(row[-1] for row in rows)
    for heading in ("one replica holds", "replicas", "per month", *[""] * has_words):
        table.add_column(heading, justify="right" if heading else "left")
    for row, cells in zip(answer.variants, rows, strict=True):
        table.add_row(Text(row.variant), *(cells if has_words else cells[:-1]))
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
