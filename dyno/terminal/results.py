"""Prints a run's results: tables, verdicts with their reasons, and the path of the report."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dyno.terminal.lines import print_line, print_lines, print_notes
from dyno.terminal.load_table import load_table
from foundation.run.journal import Journal, read_journal
from foundation.run.json_files import json_text
from foundation.run.layout import RunDirectory
from results.capacity.plan.capacity_plan import CapacityPlan
from results.decision.sentences import together
from results.report.capacity import searched
from results.report.race import race_sentence, raced
from results.report.segments import difference_sentences, time_lines
from results.report.table import Cell, in_order, rows
from results.report.table import Table as MetricsTable
from results.summary import (
    StageSummary,
    Summary,
    Validity,
    VariantVerdict,
    Verdicts,
)

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
    plan: CapacityPlan | None = None,
    *,
    excerpt: bool = False,
) -> None:
    """Prints what a person wants to see when a run is done; with `excerpt`, one answer too."""
    console.print()
    metrics = rows(summary, verdicts)
    console.print(comparison_table(summary, metrics))
    print_notes(console, metrics.notes, metrics.remarks)
    if loads := load_table(summary):
        console.print(loads)
    _show_time_spent(console, summary)
    _show_race(console, summary)
    show_validity(console, summary.validity)
    _show_notes(console, summary)
    if any(verdict.objectives for verdict in verdicts.variants):
        for verdict in verdicts.variants:
            _show_verdict(console, verdict)
        console.print()
        print_line(console, verdicts.headline, hanging="", style="bold")
    if (search := searched.words(run.path)) is not None:
        console.print("highest rate that keeps the SLO", style="bold", highlight=False)
        print_lines(
            console, [f"{name}: {text}" if name else text for name, text in search.sentences]
        )
    if plan is not None:
        console.print("capacity", style="bold", highlight=False)
        print_lines(console, [plan.sentence])
    if excerpt:
        _show_excerpt(console, run, summary.baseline)
    console.print(
        f"\nreport: {run.path / 'report.html'}", markup=False, highlight=False, soft_wrap=True
    )


def _show_time_spent(console: Console, summary: Summary) -> None:
    """Prints where the time of each variant's mean request goes, and why it differs."""
    lines = [
        f"{name}: {line}" if len(summary.variants) > 1 else line
        for name, line in time_lines(summary)
    ]
    if lines:
        console.print("where the time of the mean request goes", style="bold", highlight=False)
        print_lines(console, [*lines, *difference_sentences(summary)])


def _show_race(console: Console, summary: Summary) -> None:
    """Prints how long each variant of a race was measured, and why no longer."""
    if rows := raced(summary):
        console.print(f"the race: {race_sentence(summary)}", style="bold", highlight=False)
        blocks = ["1 block" if row.blocks == 1 else f"{row.blocks} blocks" for row in rows]
        print_lines(
            console,
            [f"{row.variant}: {many}, {row.why}" for row, many in zip(rows, blocks, strict=True)],
        )


def _show_notes(console: Console, summary: Summary) -> None:
    """Prints notes on measurements, those with most failures first, then notes on the whole run."""
    stages = [(f"{v.variant}, {s.stage}", s) for v in in_order(summary) for s in v.stages]
    worst_first = sorted(stages, key=lambda place: _success_rate(place[1]))
    places_of: dict[str, list[str]] = {}
    for place, stage in worst_first:
        for note in stage.notes:
            places_of.setdefault(note, []).append(place)
    lines = [f"{_first_few(places)}: {note}" for note, places in places_of.items()] + summary.notes
    for line in lines[:NOTES]:
        print_line(console, f"note: {line}", style="yellow")
    if len(lines) > NOTES:
        console.print(
            f"note: {len(lines) - NOTES} more in the report", style="yellow", highlight=False
        )


def _success_rate(stage: StageSummary) -> float:
    return stage.succeeded / stage.planned if stage.planned else 0.0


def _first_few(names: Sequence[str]) -> str:
    more = f" and {len(names) - PLACES} more" if len(names) > PLACES else ""
    return "; ".join(names[:PLACES]) + more


def outage(summary: Summary) -> str | None:
    """Why a run has no result: every request failed, or every server died. None for other runs.

    It holds an example of the most frequent failure.
    """
    if {variant.variant for variant in summary.variants} <= summary.failed.keys():
        reasons = "; ".join(dict.fromkeys(summary.failed.values()))
        return f"nothing was measured to the end: {reasons}"
    stages = [stage for variant in summary.variants for stage in variant.stages]
    planned = sum(stage.planned for stage in stages)
    if not planned or any(stage.succeeded for stage in stages):
        return None
    counts: Counter[str] = sum((Counter(stage.failures) for stage in stages), Counter())
    examples = {name: text for stage in reversed(stages) for name, text in stage.examples.items()}
    classes = ", ".join(f"{name} {count:,}" for name, count in counts.most_common())
    example = next(
        (f"; {name}: {examples[name]}" for name, _ in counts.most_common() if name in examples), ""
    )
    return f"nothing succeeded: all {planned:,} requests failed ({classes}){example}"


def show_validity(console: Console, validity: Validity) -> None:
    """Prints why a measurement is SUSPECT or INVALID."""
    if validity.level != "VALID":
        console.print(f"the measurement is {validity.level}", style="bold yellow", highlight=False)
        print_lines(console, validity.reasons)


def comparison_table(summary: Summary, metrics: MetricsTable) -> Table:
    """A row for each metric, a column for each variant, with differences to the baseline."""
    table = Table(
        header_style="bold",
        title=f"{summary.name}: baseline {summary.baseline}",
        title_justify="left",
    )
    for column in metrics.columns:
        table.add_column(column.title, justify=column.align, overflow="fold")
    for row in metrics.rows:
        limit = [row.limit] if metrics.has_limits else []
        table.add_row(row.title, *map(_cell, row.cells), *limit)
    return table


def _cell(cell: Cell) -> Text:
    """A value above its difference to the baseline: coloured if clear, "≈" if within noise."""
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
    print_lines(console, [verdict.headline])
    marks = {o.sentence: _MARKS[o.outcome] for o in verdict.objectives}
    sentences = together(list(marks))
    objectives = [f"{marks.get(text, _MARKS['unsettled'])} {text}" for text in sentences]
    print_lines(console, objectives, hanging=" " * 5)
    if verdict.question:
        print_lines(console, [verdict.question])
    print_lines(
        console, [f"try: {advice.remedy}: {advice.effect}" for advice in verdict.advice[:4]]
    )


def _show_excerpt(console: Console, run: RunDirectory, variant: str) -> None:
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
            print_lines(console, (answer[:EXCERPT_CHARACTERS] + more).splitlines())
            return


def results_json(run: RunDirectory, summary: Summary, verdicts: Verdicts) -> str:
    """The contents of `summary.json` and `verdict.json` in one object, and the run's path."""
    results = {
        "run": os.fsencode(run.path).decode("utf-8", "replace"),
        "summary": summary,
        "verdict": verdicts,
    }
    return json_text(results)
