"""`dyno compare`: two stored runs against each other, or several side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from dyno.commands.report import read_summary
from dyno.experiment.loading import load_experiment
from dyno.experiment.schema import Experiment
from dyno.pipeline.decide import run_inputs
from dyno.terminal.lines import print_line
from dyno.terminal.progress import open_console
from dyno.terminal.streams import print_utf8
from foundation.errors import BadInput, Exit
from foundation.files.atomic_write import write_whole
from foundation.files.folder_lock import check_free
from foundation.format import ABSENT
from foundation.run.json_files import json_text
from foundation.run.layout import RunDirectory, existing_run
from foundation.units import parse_change
from results.analysis import read_run
from results.comparison.stored_runs.compare import StoredRun, compare_runs
from results.comparison.stored_runs.conclusion import place
from results.comparison.stored_runs.outcomes import MARGIN
from results.report.run_comparison import cells, junit, markdown, news, sections
from results.report.table import Table as MetricsTable
from results.report.table import in_order, rows, stage_of
from results.summary import RunComparison

EXITS = {
    "nothing worse": Exit.DONE,
    "worse": Exit.DONT_SHIP,
    "unsettled": Exit.INCONCLUSIVE,
    "nothing compared": Exit.BAD_INPUT,
}
UNSETTLED_SHOWN = 6
_COLOURS = {"worse": "red", "better": "green", "unsettled": "yellow", "not compared": "yellow"}


def compare_two(
    before: Path, after: Path, margin: str | None, junit_file: Path | None, form: str
) -> Exit:
    """Shows what differs between two runs, and returns the exit code for `--gate`.

    `form` is "table", "markdown" or "json". Raises BadInput for a folder that is no run, and for a
    run without measurements.
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
    experiment = load_experiment(directory.experiment)
    environment = _environment(directory.environment)
    inputs = replace(run_inputs(directory, experiment), name=name)
    return read_run(inputs, environment, settings_of(experiment))


def _environment(file: Path) -> dict[str, Any]:
    try:
        contents = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(
            f"{file}: can't be read ({error}); a run has one, {{}} if nothing is known"
        ) from None
    if not isinstance(contents, dict):
        raise BadInput(f"{file}: write a JSON object")
    return contents


def _margin(text: str | None) -> float:
    if text is None:
        return MARGIN
    try:
        margin = parse_change(text)
    except ValueError as error:
        raise BadInput(f"--margin: {error}") from None
    if margin <= 0:
        raise BadInput(
            "--margin: write the largest change that counts as none, such as 5%; "
            "no data show a change of exactly 0"
        )
    return margin


def settings_of(experiment: Experiment) -> dict[str, Any]:
    """The settings of an experiment that two runs are compared by.

    Stages, variants and probes are keyed by their names. The files of a dataset or a trace are left
    out, since the run's prompts and journals hold their contents. Of a cache's salt, only its
    presence counts.
    """
    settings = experiment.model_dump(mode="json", exclude={"name"})
    workload = settings["workload"]
    workload["stages"] = {
        stage.label: each
        for stage, each in zip(experiment.workload.stages, workload["stages"], strict=True)
    }
    workload["cache_salt"] = bool(workload["cache_salt"])
    for section in (*workload["stages"].values(), workload["dataset"] or {}):
        for key in ("trace", "sharegpt"):
            if section.get(key) is not None:
                section[key] = _without_file(section[key])
    settings["variants"] = {each.pop("name"): each for each in settings["variants"]}
    settings["quality"]["probes"] = {
        each.pop("name"): each for each in settings["quality"]["probes"]
    }
    return settings


def _without_file(source: object) -> dict[str, Any]:
    """A trace or ShareGPT section less its file; its short form is the file alone."""
    if not isinstance(source, dict):
        return {}
    return {name: value for name, value in source.items() if name != "file"}


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
    unsettled = [each for each in news(comparison) if each.outcome == "unsettled"]
    left_out = unsettled[UNSETTLED_SHOWN:]
    lines = [f"{place(each)}: {each.sentence}" for each in news(comparison) if each not in left_out]
    if left_out:
        lines.append(f"{len(left_out)} more unsettled; --markdown says why of each")
    lines += [f"{title.lower()}: {text}" for title, texts in sections(comparison) for text in texts]
    for line in dict.fromkeys(lines):
        print_line(console, line)
    print_line(console, comparison.headline, hanging="", style="bold")


def _show_json(comparison: RunComparison) -> None:
    print_utf8(json_text(comparison))


_FORMS: dict[str, Callable[[RunComparison], None]] = {
    "table": _show_table,
    "markdown": lambda comparison: print_utf8(markdown(comparison)),
    "json": _show_json,
}


def show_side_by_side(runs: Sequence[Path]) -> None:
    """Shows every variant of every run in a column, at its run's judged load.

    A column whose measurement is not VALID says so.
    """
    for run in runs:
        check_free(existing_run(run).path)
    summaries = [(run.name, read_summary(RunDirectory(run))) for run in runs]
    tables = [rows(summary) for _, summary in summaries]
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
    labels = {row.key: row.label for metrics in tables for row in metrics.rows}
    for key, label in labels.items():
        cells_of_row = [text for metrics in tables for text in _row_cells(metrics, key)]
        table.add_row(label, *map(Text, cells_of_row))
    console = open_console()
    console.print(table)
    for name, summary in summaries:
        for reason in summary.validity.reasons:
            print_line(console, f"{name}: {reason}")


def _row_cells(metrics: MetricsTable, key: str) -> list[str]:
    """A run's values of one metric, "-" if the run has not measured it."""
    row = next((row for row in metrics.rows if row.key == key), None)
    if row is None:
        return ["-"] * len(metrics.variants)
    return [_with_unit(cell.value, row.unit) for cell in row.cells]


def _with_unit(value: str, unit: str) -> str:
    """A value that stands alone: "$0.147 per 1,000", "268 ms"; no unit for a value that lacks."""
    if value == ABSENT or not unit:
        return value
    if unit.startswith("$"):
        return f"${value}{unit.removeprefix('$')}"
    return f"{value} {unit}"
