"""What is made of stored runs: the report again, a capacity plan, runs side by side. Nothing is measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from dyno.console import open_console, progress_for
from dyno.experiment import Experiment, load_experiment
from dyno.pipeline import decide, run_inputs, write_json
from dyno.run_directory import RunDirectory, existing_run
from dyno.show import show_capacity, show_results
from foundation.errors import BadInput
from results import plan_capacity
from results.config import PlanConfig
from results.report.format import quantity
from results.report.table import difference_text, rows
from results.summary import RunComparison, Summary, Verdicts


def rebuild(run: Path) -> Verdicts:
    """Summary, verdict and report anew from the journals."""
    directory = existing_run(run)
    console = open_console()
    with progress_for(console) as progress:
        summary, verdicts = decide(directory, load_experiment(directory.experiment), progress)
    show_results(console, directory, summary, verdicts)
    return verdicts


def show_plan(run: Path, peak_rate: str | None, headroom: str, spare: int) -> None:
    """Print the capacity plan and write `plan.json`. Without a peak, the experiment's own section plan counts."""
    directory = existing_run(run)
    experiment = load_experiment(directory.experiment)
    plan = _plan_config(experiment, peak_rate, headroom, spare)
    summary = _summary(directory)
    made = plan_capacity(summary, run_inputs(directory, experiment.model_copy(update={"plan": plan})))
    write_json(made, directory.path / "plan.json")
    show_capacity(open_console(), made)


def _plan_config(experiment: Experiment, peak_rate: str | None, headroom: str, spare: int) -> PlanConfig:
    if peak_rate is None:
        if experiment.plan is None:
            raise BadInput("write --peak-rate, the requests/s to plan for, such as --peak-rate 120")
        return experiment.plan
    try:
        return PlanConfig.model_validate({"peak_rate": peak_rate, "headroom": headroom, "spare": spare})
    except ValidationError as error:
        problem = error.errors()[0]
        field = str(problem["loc"][0]).replace("_", "-")
        raise BadInput(f"--{field}: {problem['msg'].removeprefix('Value error, ')}") from None


def _summary(directory: RunDirectory) -> Summary:
    file = directory.path / "summary.json"
    try:
        return msgspec.json.decode(file.read_bytes(), type=Summary)
    except FileNotFoundError:
        raise BadInput(f"{file}: not there yet; make it with: dyno report {directory.path}") from None
    except msgspec.MsgspecError as error:
        raise BadInput(f"{file}: {error}; make it anew with: dyno report {directory.path}") from None


def compare_two(before: Path, after: Path, junit: Path | None, as_markdown: bool) -> bool:
    """What differs between two runs beyond their own noise; whether anything got worse."""
    from results import compare_runs
    from results.runs_text import junit as junit_text
    from results.runs_text import markdown

    sides = [existing_run(run) for run in (before, after)]
    inputs = [replace(run_inputs(d, load_experiment(d.experiment)), name=d.path.name) for d in sides]
    environments = [json.loads(d.environment.read_text()) for d in sides]
    found = compare_runs(inputs[0], inputs[1], (environments[0], environments[1]))
    if junit is not None:
        junit.write_text(junit_text(found))
    if as_markdown:
        print(markdown(found))
    else:
        _show_changes(found)
    return any(change.outcome == "worse" for change in found.changes)


def _show_changes(found: RunComparison) -> None:
    console = open_console()
    table = Table("variant", "metric", title=f"{found.before} -> {found.after}", title_justify="left", header_style="bold")
    for heading in ("before", "after", "change"):
        table.add_column(heading, justify="right")
    table.add_column("beyond noise?")
    colours = {"worse": "red", "better": "green"}
    for each in found.changes:
        before, after = (quantity(side.value, each.unit) for side in (each.before, each.after))
        size = difference_text(each.difference, each.unit)
        where = Text(f"{each.variant} {each.stage or ''}".rstrip())
        table.add_row(where, each.label, before, after, size, Text(each.outcome, colours.get(each.outcome, "dim")))
    console.print(table)
    for line in [*(f"differs: {text}" for text in found.environment), *(f"note: {text}" for text in found.notes)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def show_comparison(runs: Sequence[Path]) -> None:
    """Every variant of every run, a column each, under its run's judged load."""
    summaries = [(run.name, _summary(existing_run(run))) for run in runs]
    made = [(name, rows(summary)) for name, summary in summaries]
    table = Table(header_style="bold")
    table.add_column("")
    for name, one in made:
        for variant in one.variants:
            table.add_column(f"{name}\n{variant}", justify="right", overflow="fold")
    titles = {row.key: row.label for _, one in made for row in one.rows}
    for key, label in titles.items():
        cells = []
        for _, one in made:
            row = next((row for row in one.rows if row.key == key), None)
            cells += [f"{cell.value} {row.unit}" for cell in row.cells] if row else ["-"] * len(one.variants)
        table.add_row(label, *(Text(cell) for cell in cells))
    open_console().print(table)
