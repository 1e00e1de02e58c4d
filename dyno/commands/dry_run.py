"""`dyno run --dry-run`: everything checked, the stages with estimated time and memory, nothing started."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from rich.table import Table

from dyno.artifacts.record import edited
from dyno.artifacts.resume import changes, standings, taken_up
from dyno.checks.templates import template_notes
from dyno.commands.run import MeasureUntil
from dyno.estimates.stages import estimate_stages, total
from dyno.estimates.timeline import span
from dyno.experiment.loading import load_experiment
from dyno.experiment.schema import Experiment
from dyno.pipeline.decide import run_inputs
from dyno.pipeline.prepare import prepare
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.run import pace_here
from dyno.pipeline.serving import plan_serving
from dyno.terminal.progress import PlainProgress, open_console
from foundation.files.folder_lock import check_free
from foundation.format import duration, percent
from foundation.run.layout import RunDirectory, existing_run
from loadgen.sending.descriptors import allow_connections
from results.comparison.resolution import forecast
from serve import ServePlan


def dry_run_file(file: Path, until: MeasureUntil, pilot: Path | None) -> None:
    """Checks an experiment file and prints what would run."""
    experiment = until.applied(load_experiment(file))
    show_dry_run(experiment, file.resolve().parent, pilot)


def dry_run_resumed(run: Path, until: MeasureUntil, pilot: Path | None) -> None:
    """Checks a run that was cut off and prints what would still be done."""
    directory = existing_run(run)
    experiment = until.applied(load_experiment(directory.experiment))
    show_dry_run(experiment, directory.path.resolve(), pilot, directory)


def show_dry_run(
    experiment: Experiment, where: Path, pilot: Path | None = None, run: RunDirectory | None = None
) -> None:
    """Check and print; `pilot` is an earlier run that tells how many blocks a resolution takes.

    `run`: the one that would be gone on with. Raises what a real run would raise before its first slow step.
    """
    console = open_console()
    progress = PlainProgress(console)
    if run is not None:
        check_free(run.path)
        if note := edited(run, experiment):
            progress.log(f"warning: {note}")
    prepared = prepare(experiment, where, progress, need_models=False)
    allow_connections(prepared.experiment.workload, len(experiment.variants))
    with tempfile.TemporaryDirectory() as nowhere:
        directory = run or RunDirectory(Path(nowhere) / experiment.name)
        prepared = taken_up(prepared, directory)
        plan = plan_serving(prepared, directory)
        artifacts = _artifacts(prepared, directory)
        for line in changes(prepared, directory):
            progress.log(line)
    stages = estimate_stages(prepared, plan, pace_here(prepared, plan, progress))
    table = Table(
        "stage",
        "what",
        "about",
        "estimate",
        title=f"{experiment.name}: what would run",
        title_justify="left",
    )
    for stage in stages:
        about = "the server decides" if stage.seconds is None else span(stage.seconds)
        table.add_row(stage.stage, stage.what, about, stage.basis)
    table.add_section()
    more = " and what the servers decide" if any(stage.seconds is None for stage in stages) else ""
    table.add_row("", f"in all{more}", span(total(stages)), "")
    console.print(table)
    console.print(artifacts)
    console.print(_servers(plan))
    asked = (
        f"{name}: {line}" for name, lines in template_notes(prepared).items() for line in lines
    )
    for note in (*plan.notes, *asked, *_resolution_notes(experiment, pilot)):
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    console.print("everything checks out; nothing was started")


def _resolution_notes(experiment: Experiment, pilot: Path | None) -> list[str]:
    """What the planned blocks will show, as far as an earlier run tells; else when it will be known."""
    wanted = experiment.resolution
    if pilot is not None:
        run = existing_run(pilot)
        check_free(run.path)
        inputs = replace(run_inputs(run, load_experiment(run.experiment)), resolution=wanted)
        return [
            f"if it goes as in {pilot}: {sentence}"
            for sentence in forecast(inputs, experiment.workload.blocks)
        ]
    if wanted is None:
        return []
    return [
        f"the first {wanted.pilot} blocks tell how many a change of {percent(wanted.change)} takes, "
        f"within {duration(wanted.max_time)}; --pilot RUN tells it now, from an earlier run"
    ]


def _artifacts(prepared: Prepared, run: RunDirectory) -> Table:
    """The graph: what is made and measured, in the order that it is, and what of it is there."""
    table = Table("artifact", "identity", "state", title="Artifacts", title_justify="left")
    for each in standings(prepared, run):
        table.add_row(each.place, each.identity[:12], each.words)
    return table


def _servers(plan: ServePlan) -> Table:
    table = Table("server", "variants", "memory", "dtype", title="Servers", title_justify="left")
    for server in plan.servers:
        memory = f"{server.memory.total / 2**30:.1f} GiB"
        table.add_row(
            server.name, ", ".join(v.name for v in server.variants), memory, server.dtype.dtype
        )
    return table
