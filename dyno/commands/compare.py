"""`dyno compare`: two stored runs against each other, or any number of them side by side. Nothing
is measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from dyno.commands.report import read_summary
from dyno.experiment.loading import load_experiment
from dyno.experiment.schema import Experiment
from dyno.pipeline.decide import run_inputs
from dyno.terminal.progress import open_console
from dyno.terminal.streams import put
from foundation.errors import BadInput, Exit
from foundation.files.atomic_write import write_whole
from foundation.files.folder_lock import check_free
from foundation.printable import json_printable
from foundation.run.layout import RunDirectory, existing_run
from foundation.units import parse_change
from results.analysis import read_run
from results.comparison.runs.compare import StoredRun, compare_runs
from results.comparison.runs.conclusion import place
from results.comparison.runs.outcomes import MARGIN
from results.report.run_comparison import cells, junit, markdown, news, sections
from results.report.table import in_order, rows, stage_of
from results.summary import RunComparison

EXITS = {
    "nothing worse": Exit.DONE,
    "worse": Exit.DONT_SHIP,
    "unsettled": Exit.INCONCLUSIVE,
    "nothing compared": Exit.BAD_INPUT,
}
_COLOURS = {"worse": "red", "better": "green", "unsettled": "yellow", "not compared": "yellow"}


def compare_two(
    before: Path, after: Path, margin: str | None, junit_file: Path | None, form: str
) -> Exit:
    """Show what differs between two runs, and return the exit code that a gate ends with.

    `form` is "table", "markdown" or "json". Raises BadInput for what is no run, or has nothing
    measured.
    """
    names = (before.resolve().name, after.resolve().name)
    if names[0] == names[1]:
        names = (str(before), str(after))
    comparison = compare_runs(_stored(before, names[0]), _stored(after, names[1]), _margin(margin))
    if junit_file is not None:
        _write(junit_file, junit(comparison))
    _FORMS[form](comparison)
    return EXITS[comparison.conclusion]


def _write(file: Path, text: str) -> None:
    try:
        write_whole(file, text)
    except OSError as error:
        raise BadInput(f"--junit: {file}: can't be written ({error.strerror})") from None


def _stored(run: Path, name: str) -> StoredRun:
    directory = existing_run(run)
    check_free(run)
    experiment, environment = (
        load_experiment(directory.experiment),
        _environment(directory.environment),
    )
    inputs = replace(run_inputs(directory, experiment), name=name)
    return read_run(inputs, environment, settings_of(experiment))


def _environment(file: Path) -> dict[str, Any]:
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(
            f"{file}: can't be read ({error}); a run has one, {{}} where nothing is known"
        ) from None
    if not isinstance(read, dict):
        raise BadInput(f"{file}: write a JSON object")
    return read


def _margin(text: str | None) -> float:
    if text is None:
        return MARGIN
    try:
        margin = parse_change(text)
    except ValueError as error:
        raise BadInput(f"--margin: {error}") from None
    if margin <= 0:
        raise BadInput(
            "--margin: write the largest change that counts as none, such as 5%; no data show a change of exactly 0"
        )
    return margin


def settings_of(experiment: Experiment) -> dict[str, Any]:
    """The sections of an experiment, with lists of named things by their names, and without what is
    only a place.

    What stands in the files of a dataset or a trace is in the run's prompts and journals; of a
    cache's salt it matters only whether there is one.
    """
    settings = experiment.model_dump(mode="json", exclude={"name"})
    workload = settings["workload"]
    workload["stages"] = {
        stage.label: each
        for stage, each in zip(experiment.workload.stages, workload["stages"], strict=True)
    }
    workload["cache_salt"] = bool(workload["cache_salt"])
    for place_ in (*workload["stages"].values(), workload["dataset"] or {}):
        for key in ("trace", "sharegpt"):
            if place_.get(key) is not None:
                place_[key] = {
                    name: value for name, value in _section(place_[key]).items() if name != "file"
                }
    settings["variants"] = {each.pop("name"): each for each in settings["variants"]}
    settings["quality"]["probes"] = {
        each.pop("name"): each for each in settings["quality"]["probes"]
    }
    return settings


def _section(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {"file": value}


def _show_table(comparison: RunComparison) -> None:
    console = open_console()
    title = f"{comparison.before} -> {comparison.after}"
    table = Table("variant", "metric", title=title, title_justify="left", header_style="bold")
    for heading in ("before", "after", "change", "the data allow"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for each in comparison.changes:
        outcome = Text(each.outcome, _COLOURS.get(each.outcome, "dim"))
        table.add_row(Text(place(each)), each.label, *cells(each), outcome)
    if comparison.changes:
        console.print(table)
    lines = [f"{place(each)}: {each.sentence}" for each in news(comparison)]
    lines += [f"{title.lower()}: {text}" for title, texts in sections(comparison) for text in texts]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(comparison.headline, style="bold", markup=False, highlight=False, soft_wrap=True)


def _show_json(comparison: RunComparison) -> None:
    put(json_printable(msgspec.json.format(msgspec.json.encode(comparison), indent=2).decode()))


_FORMS: dict[str, Callable[[RunComparison], None]] = {
    "table": _show_table,
    "markdown": lambda comparison: put(markdown(comparison)),
    "json": _show_json,
}


def show_side_by_side(runs: Sequence[Path]) -> None:
    """Every variant of every run, a column each, under its run's judged load; columns that are not
    VALID say so.
    """
    for run in runs:
        check_free(existing_run(run).path)
    summaries = [(run.name, read_summary(RunDirectory(run))) for run in runs]
    made = [(name, rows(summary)) for name, summary in summaries]
    table = Table(header_style="bold")
    table.add_column("")
    for name, summary in summaries:
        for variant in in_order(summary):
            stage = stage_of(variant)
            level = stage.validity.level if stage is not None else "not measured"
            doubt = "" if level == "VALID" else f"\n{level}"
            table.add_column(
                Text(f"{name}\n{variant.variant}{doubt}"), justify="right", overflow="fold"
            )
    titles = {row.key: row.label for _, one in made for row in one.rows}
    for key, label in titles.items():
        texts = []
        for _, one in made:
            row = next((row for row in one.rows if row.key == key), None)
            texts += (
                [f"{cell.value} {row.unit}" for cell in row.cells]
                if row
                else ["-"] * len(one.variants)
            )
        table.add_row(label, *map(Text, texts))
    console = open_console()
    console.print(table)
    for name, summary in summaries:
        for reason in summary.validity.reasons:
            console.print(f"{name}: {reason}", markup=False, highlight=False, soft_wrap=True)
