"""Results on the terminal: the table, the verdicts with their reasons, and where the report lies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dyno.terminal.loads_table import loads_table
from foundation.run.layout import RunDirectory
from results.report.table import Cell, in_order, rows
from results.summary import CapacityPlan, Summary, Validity, VariantVerdict, Verdicts

_COLOURS = {"SHIP": "bold green", "DON'T SHIP": "bold red", "INCONCLUSIVE": "bold yellow"}
_EFFECTS = {"better": "green", "worse": "red"}
_MARKS = {"holds": "ok  ", "fails": "FAIL", "unsettled": "?   "}
EXCERPT_CHARACTERS = 300
NOTES, PLACES = 15, 3


def show_results(
    console: Console,
    run: RunDirectory,
    summary: Summary,
    verdicts: Verdicts,
    *,
    excerpt: bool = False,
) -> None:
    """Everything a person wants to see when a run is done."""
    console.print()
    console.print(comparison_table(summary, verdicts))
    if loads := loads_table(summary):
        console.print(loads)
    _show_validity(console, summary.validity)
    _show_notes(console, summary)
    if any(verdict.objectives for verdict in verdicts.variants):
        for verdict in verdicts.variants:
            _show_verdict(console, verdict)
        console.print(
            f"\n{verdicts.headline}", style="bold", markup=False, highlight=False, soft_wrap=True
        )
    if excerpt:
        _show_excerpt(console, run, summary.baseline)
    console.print(
        f"\nreport: {run.path / 'report.html'}", markup=False, highlight=False, soft_wrap=True
    )


def _show_notes(console: Console, summary: Summary) -> None:
    """What the report says of each measurement, where most failed first; then what holds for the whole run."""
    stages = [(f"{v.variant}, {s.stage}", s) for v in in_order(summary) for s in v.stages]
    worst_first = sorted(
        stages, key=lambda at: at[1].succeeded / at[1].planned if at[1].planned else 0.0
    )
    places: dict[str, list[str]] = {}
    for place, stage in worst_first:
        for note in stage.notes:
            places.setdefault(note, []).append(place)
    lines = [f"{_some(where)}: {note}" for note, where in places.items()] + summary.notes
    for line in lines[:NOTES]:
        console.print(
            f"note: {line}", style="yellow", markup=False, highlight=False, soft_wrap=True
        )
    if len(lines) > NOTES:
        console.print(
            f"note: {len(lines) - NOTES} more in the report", style="yellow", highlight=False
        )


def _some(names: Sequence[str]) -> str:
    """The first few of many."""
    return "; ".join(names[:PLACES]) + (
        f" and {len(names) - PLACES} more" if len(names) > PLACES else ""
    )


def outage(summary: Summary) -> str | None:
    """What a run says in which not one request succeeded, with an example of its most frequent failure, or no server lived
    to the end; None for any other.
    """
    if {variant.variant for variant in summary.variants} <= summary.failed.keys():
        return (
            f"nothing was measured to the end: {'; '.join(dict.fromkeys(summary.failed.values()))}"
        )
    stages = [stage for variant in summary.variants for stage in variant.stages]
    planned = sum(stage.planned for stage in stages)
    if not planned or any(stage.succeeded for stage in stages):
        return None
    counts: Counter[str] = sum((Counter(stage.failures) for stage in stages), Counter())
    examples = {name: words for stage in reversed(stages) for name, words in stage.examples.items()}
    classes = ", ".join(f"{name} {count:,}" for name, count in counts.most_common())
    said = next(
        (f"; {name}: {examples[name]}" for name, _ in counts.most_common() if name in examples), ""
    )
    return f"nothing succeeded: all {planned:,} requests failed ({classes}){said}"


def _show_validity(console: Console, validity: Validity) -> None:
    if validity.level != "VALID":
        console.print(f"the measurement is {validity.level}", style="bold yellow", highlight=False)
        _lines(console, validity.reasons)


def comparison_table(summary: Summary, verdicts: Verdicts | None) -> Table:
    """A row a metric, a column a variant, each with its difference to the baseline."""
    made = rows(summary, verdicts)
    table = Table(
        header_style="bold",
        title=f"{summary.name}: baseline {summary.baseline}",
        title_justify="left",
    )
    for column in made.columns:
        table.add_column(column.title, justify=column.align, overflow="fold")
    for row in made.rows:
        table.add_row(row.title, *map(_cell, row.cells), *([row.limit] if made.has_limits else []))
    table.caption = (
        "\n".join(f"{number}: {reason}" for number, reason in enumerate(made.notes, start=1))
        or None
    )
    table.caption_justify = "left"
    return table


def _cell(cell: Cell) -> Text:
    """The value, and below it the difference to the baseline: coloured where it is shown, "≈" where it is within noise."""
    value = Text(
        cell.value + (f" [{cell.note}]" if cell.note else ""),
        "bold red" if cell.outcome == "fails" else "",
    )
    if not cell.difference:
        return value
    sign = "≈ " if cell.effect == "unclear" else ""
    return Text.assemble(value, "\n", (sign + cell.difference, _EFFECTS.get(cell.effect, "dim")))


def _show_verdict(console: Console, verdict: VariantVerdict) -> None:
    name = f"{verdict.variant} (baseline)" if verdict.is_baseline else verdict.variant
    console.print()
    console.print(
        Text.assemble((name, "bold"), ": ", (verdict.decision, _COLOURS[verdict.decision]))
    )
    _lines(console, [verdict.headline])
    _lines(console, [f"{_MARKS[o.outcome]} {o.sentence}" for o in verdict.objectives])
    if verdict.question:
        _lines(console, [verdict.question])
    _lines(console, [f"try: {advice.remedy}: {advice.effect}" for advice in verdict.advice[:4]])


def _lines(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _show_excerpt(console: Console, run: RunDirectory, variant: str) -> None:
    from foundation.run.journal import Journal, read_journal

    for file in sorted((run.path / "load" / variant).glob("*/block-*.jsonl")):
        journal = read_journal(file)
        answers = (
            zip(journal.requests.ok, journal.requests.text, strict=True)
            if isinstance(journal, Journal)
            else ()
        )
        answer = next((text for ok, text in answers if ok), "")
        if answer:
            more = "..." if len(answer) > EXCERPT_CHARACTERS else ""
            console.print("\nan answer:", style="bold")
            _lines(console, (answer[:EXCERPT_CHARACTERS] + more).splitlines())
            return


def show_capacity(console: Console, plan: CapacityPlan) -> None:
    """A line a variant: what one replica holds, how many replicas, what they cost."""
    title = f"{plan.name}: {plan.peak_rate:g} requests/s at the peak, {plan.headroom:.0%} headroom, {plan.spare} spare"
    table = Table("variant", title=title, title_justify="left")
    for heading in ("one replica holds", "replicas", "per month"):
        table.add_column(heading, justify="right")
    for variant in plan.variants:
        held = (
            "-"
            if variant.rate_per_replica is None
            else f"{'at least ' * variant.lower_bound}{variant.rate_per_replica:.3g}/s"
        )
        cost = "-" if variant.cost_per_month is None else f"${variant.cost_per_month:,.0f}"
        table.add_row(
            Text(variant.variant),
            held,
            "-" if variant.replicas is None else str(variant.replicas),
            cost,
        )
    console.print(table)
    _lines(console, [f"{v.variant}: {v.sentence}" for v in plan.variants])
    _show_validity(console, plan.validity)
