"""Prints a profile: time by group, the difference, the top operators, the roofline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from results.profile.groups import TITLES
from results.profile.record import Profile, VariantProfile
from results.report.profile import columns, rows

TOP = 8


def show_profile(console: Console, profile: Profile, file: Path) -> None:
    """Prints what a person wants to see of a profile, and where the whole of it lies."""
    console.print()
    console.print(_groups_table(profile))
    for each in profile.variants:
        console.print(_operators_table(each))
    for line in _lines(profile, file):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _groups_table(profile: Profile) -> Table:
    """A row for each group: ms a step, the share of the traced time, and the difference."""
    table = Table(title=f"ms per engine step, stage {profile.stage}", title_justify="left")
    table.add_column("group")
    for name in columns(profile):
        table.add_column(name, justify="right")
    *groups, whole = rows(profile, decimals=3, without="")
    for title, cells in groups:
        table.add_row(title, *cells)
    table.add_section()
    table.add_row(whole[0], *whole[1])
    return table


def _operators_table(profile: VariantProfile) -> Table:
    """The operators that take most time of their own."""
    table = Table(title=f"{profile.variant}: operators by their own time", title_justify="left")
    for name in ("operator", "group"):
        table.add_column(name, overflow="fold")
    for name in ("calls a step", "ms a step"):
        table.add_column(name, justify="right")
    for each in profile.operators[:TOP]:
        table.add_row(
            each.operator,
            TITLES[each.group],
            f"{each.calls / profile.steps:.1f}",
            f"{each.ms_per_step:.3f}",
        )
    return table


def _lines(profile: Profile, file: Path) -> Iterator[str]:
    """The sentences below the tables."""
    for each in profile.variants:
        tokens = each.tokens
        yield (
            f"{each.variant}: {each.steps} steps in {each.traced_ms:,.0f} ms; the mean step holds "
            f"{tokens.prompt_tokens:.1f} prompt and {tokens.answer_tokens:.1f} answer tokens"
        )
        if (limit := each.roofline) is not None:
            yield (
                f"{limit.sentence}: a step needs {limit.gigabytes_per_step:.3f} GB and "
                f"{limit.gigaflops_per_step:.2f} GFLOP, and the machine does "
                f"{limit.machine_gigabytes_per_s:.1f} GB/s and "
                f"{limit.machine_gigaflops_per_s:,.0f} GFLOP/s ({limit.arithmetic})"
            )
        elif each.no_roofline:
            yield f"{each.variant}: no roofline: {each.no_roofline}"
        yield from (f"note: {each.variant}: {note}" for note in each.notes)
    if profile.comparison:
        yield from (f"note: {note}" for note in profile.comparison.notes)
    yield f"profile: {file}"
    for each in profile.variants:
        if each.trace:
            yield f"trace: {file.parent / each.trace} (ui.perfetto.dev shows it)"
