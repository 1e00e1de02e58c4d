"""Prints the models of engines: step time, front end, limits, range and residual."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from foundation.format import duration, percent
from results.capacity.model.record import VariantModel
from results.capacity.model.words import front_rows, limits_sentence, range_sentence, step_rows


def show_models(console: Console, models: Mapping[str, VariantModel], file: Path) -> None:
    """Prints each model that is known, and where the whole of it lies."""
    for name, model in models.items():
        if model.none is None:
            console.print()
            console.print(_steps_table(name, model))
            for line in _lines(model):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"models: {file}", markup=False, highlight=False, soft_wrap=True)


def _steps_table(name: str, model: VariantModel) -> Table:
    """A row for each coefficient: what it stands for, its value and interval."""
    title = f"{name}: what an engine step takes, from its {model.source}"
    table = Table("for", title=title, title_justify="left")
    for heading in ("takes", "95 % interval"):
        table.add_column(heading, justify="right")
    for row in step_rows(model):
        table.add_row(*row)
    return table


def _lines(model: VariantModel) -> Iterator[str]:
    """The sentences below the table."""
    if model.residual is not None:
        yield f"measured steps lie {percent(model.residual)} around the model (standard deviation)"
    if model.front and (rows := list(front_rows(model.front))):
        yield "front end: " + ", ".join(f"{value} for {words}" for words, value in rows)
    if model.scheduler and (limits := limits_sentence(model.scheduler)):
        yield f"scheduler: {limits}"
    if model.fitted:
        yield f"fitted on up to {range_sentence(model.fitted)}"
    yield f"{len(model.loads)} loads in {duration(model.measured_s)}"
    yield from (f"note: {note}" for note in model.notes)
