"""Prints the rounds of `dyno improve`, and how they ended."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dyno.terminal.lines import print_lines
from foundation.format import argument
from foundation.run.layout import RunDirectory
from results.decision.improvement.record import Improvement, ImproveRound
from results.report.improvement import HEADINGS, round_table


def show_round(console: Console, round_: ImproveRound) -> None:
    """Prints a round: a row for each remedy, and the sentences below."""
    shown = round_table(round_)
    console.print()
    if shown.rows:
        table = Table(title=shown.title, title_justify="left", header_style="bold")
        for heading in HEADINGS:
            table.add_column(heading, overflow="fold")
        for row in shown.rows:
            table.add_row(*map(Text, row))
        console.print(table)
    else:
        console.print(Text(shown.title, "bold"))
    print_lines(console, shown.notes)


def show_ending(console: Console, improvement: Improvement, run: RunDirectory) -> None:
    """Prints the last sentence, what was left out, and where everything lies."""
    print_lines(console, [f"left out: {each.remedy}: {each.why}" for each in improvement.skipped])
    console.print()
    console.print(Text(improvement.sentence, "bold"), soft_wrap=True)
    measured = [each for each in improvement.rounds if each.headline is not None]
    if measured:
        folder = run.path / measured[-1].folder
        lines = [
            f"the last round: {folder}/report.html, "
            f"again: dyno run {argument(folder / 'experiment.yaml')}"
        ]
        print_lines(console, lines)
    console.print(
        f"report: {run.path / 'report.html'}", markup=False, highlight=False, soft_wrap=True
    )
