"""Results on the terminal: the table, the verdicts with their reasons, and where the report lies."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dyno.run_directory import RunDirectory
from results.report.table import Cell, rows
from results.summary import CapacityPlan, Summary, VariantVerdict, Verdicts

_COLOURS = {"SHIP": "bold green", "DON'T SHIP": "bold red", "INCONCLUSIVE": "bold yellow"}
_EFFECTS = {"better": "green", "worse": "red"}
_MARKS = {"holds": "ok  ", "fails": "FAIL", "unsettled": "?   "}
EXCERPT_CHARACTERS = 300


def show_results(console: Console, run: RunDirectory, summary: Summary, verdicts: Verdicts, *, excerpt: bool = False) -> None:
    """Everything a person wants to see when a run is done."""
    console.print()
    console.print(comparison_table(summary, verdicts))
    if summary.validity.level != "VALID":
        console.print(f"the measurement is {summary.validity.level}", style="bold yellow", highlight=False)
        _lines(console, summary.validity.reasons)
    for note in summary.notes:
        console.print(f"note: {note}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    if any(verdict.objectives for verdict in verdicts.variants):
        for verdict in verdicts.variants:
            _show_verdict(console, verdict)
        console.print(f"\n{verdicts.headline}", style="bold", markup=False, highlight=False, soft_wrap=True)
    if excerpt:
        _show_excerpt(console, run, summary.baseline)
    console.print(f"\nreport: {run.path / 'report.html'}", markup=False, highlight=False, soft_wrap=True)


def comparison_table(summary: Summary, verdicts: Verdicts | None) -> Table:
    """A row a metric, a column a variant, each with its difference to the baseline."""
    made = rows(summary, verdicts)
    table = Table(header_style="bold", title=f"{summary.name}: baseline {summary.baseline}", title_justify="left")
    for column in made.columns:
        table.add_column(column.title, justify=column.align, overflow="fold")
    for row in made.rows:
        table.add_row(row.title, *map(_cell, row.cells), *([row.limit] if made.has_limits else []))
    table.caption = "\n".join(f"{number}: {reason}" for number, reason in enumerate(made.notes, start=1)) or None
    table.caption_justify = "left"
    return table


def _cell(cell: Cell) -> Text:
    """The value, and below it the difference to the baseline: coloured where it is shown, "≈" where it is within noise."""
    value = Text(cell.value + (f" [{cell.note}]" if cell.note else ""), "bold red" if cell.outcome == "fails" else "")
    if not cell.difference:
        return value
    sign = "≈ " if cell.effect == "unclear" else ""
    return Text.assemble(value, "\n", (sign + cell.difference, _EFFECTS.get(cell.effect, "dim")))


def _show_verdict(console: Console, verdict: VariantVerdict) -> None:
    name = f"{verdict.variant} (baseline)" if verdict.is_baseline else verdict.variant
    console.print()
    console.print(Text.assemble((name, "bold"), ": ", (verdict.decision, _COLOURS[verdict.decision])))
    _lines(console, [verdict.headline])
    _lines(console, [f"{_MARKS[o.outcome]} {o.sentence}" for o in verdict.objectives])
    if verdict.question:
        _lines(console, [verdict.question])
    _lines(console, [f"try: {advice.remedy}: {advice.effect}" for advice in verdict.advice[:4]])


def _lines(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _show_excerpt(console: Console, run: RunDirectory, variant: str) -> None:
    from results.journal import Journal, read_journal

    for file in sorted((run.path / "load" / variant).glob("*/block-*.jsonl")):
        journal = read_journal(file)
        answers = zip(journal.requests.ok, journal.requests.text, strict=True) if isinstance(journal, Journal) else ()
        answer = next((text for ok, text in answers if ok), "")
        if answer:
            more = "..." if len(answer) > EXCERPT_CHARACTERS else ""
            console.print("\nan answer:", style="bold")
            console.print(answer[:EXCERPT_CHARACTERS] + more, markup=False, highlight=False)
            return


def show_capacity(console: Console, plan: CapacityPlan) -> None:
    """A line a variant: what one replica holds, how many replicas, what they cost."""
    title = f"{plan.name}: {plan.peak_rate:g} requests/s at the peak, {plan.headroom:.0%} headroom, {plan.spare} spare"
    table = Table("variant", title=title, title_justify="left")
    for heading in ("one replica holds", "replicas", "per month"):
        table.add_column(heading, justify="right")
    for variant in plan.variants:
        held = "-" if variant.rate_per_replica is None else f"{'at least ' * variant.lower_bound}{variant.rate_per_replica:.3g}/s"
        cost = "-" if variant.cost_per_month is None else f"${variant.cost_per_month:,.0f}"
        table.add_row(Text(variant.variant), held, "-" if variant.replicas is None else str(variant.replicas), cost)
    console.print(table)
    _lines(console, [f"{v.variant}: {v.sentence}" for v in plan.variants])
