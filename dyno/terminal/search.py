"""Prints the result of a search: a row for each variant, and what each says."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from foundation.format import ABSENT, rate_text
from foundation.run.layout import RunDirectory
from results.capacity.search.record import CapacitySearch


def show_search(console: Console, search: CapacitySearch, run: RunDirectory) -> None:
    """Prints the interval of each variant, the sentences and the path of the record."""
    slo = ", ".join(f"{metric} {text}" for metric, text in search.slo.items())
    table = Table("variant", title=f"{search.name}: {slo}", title_justify="left")
    for heading in ("holds, requests/s", "fails, requests/s", "probes", "requests"):
        table.add_column(heading, justify="right")
    for each in search.variants:
        table.add_row(
            Text(each.variant),
            _rate(each.holds),
            _rate(each.fails),
            str(len(each.probes)),
            f"{sum(probe.requests for probe in each.probes):,}",
        )
    table.caption = f"the highest rate lies between them, {search.confidence:.0%} sure"
    table.caption_justify = "left"
    console.print(table)
    lines = [f"{each.variant}: {each.sentence}" for each in search.variants]
    for line in (*lines, *search.notes, f"\nsearch: {run.search}"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _rate(rate: float | None) -> str:
    return ABSENT if rate is None else rate_text(rate)
