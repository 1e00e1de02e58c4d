"""`dyno run --dry-run`: checks everything, prints the stages with estimates, starts nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.table import Table

from dyno.artifacts.record import edit_warning
from dyno.artifacts.resume import artifact_states, changes, with_earlier_measurements
from dyno.checks.templates import template_notes
from dyno.commands.run import StoppingRule
from dyno.estimates.stages import StageEstimate, estimate_stages, total
from dyno.estimates.timeline import span
from dyno.experiment.loading import load_experiment
from dyno.experiment.schema import Experiment
from dyno.pipeline.decide import run_inputs
from dyno.pipeline.part_runs import check_sent_here
from dyno.pipeline.prepare import prepare
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.run import pace_here
from dyno.pipeline.search_plan import check_search
from dyno.pipeline.serving import plan_serving
from dyno.pipeline.setting_words import differing_settings
from dyno.terminal.lines import print_line
from dyno.terminal.progress import PlainProgress, open_console
from foundation.files.folder_lock import check_free
from foundation.format import duration, percent
from foundation.run.layout import RunDirectory, existing_run
from loadgen.sending.descriptors import allow_connections
from results.comparison.resolution import forecast
from serve import ServePlan


def dry_run_file(file: Path, rule: StoppingRule, pilot: Path | None) -> None:
    """Checks an experiment file and prints what would run."""
    experiment = rule.applied(load_experiment(file))
    show_dry_run(experiment, file.resolve().parent, pilot)


def dry_run_resumed(run: Path, rule: StoppingRule, pilot: Path | None) -> None:
    """Checks a run that was cut off and prints what is left to do."""
    directory = existing_run(run)
    experiment = rule.applied(load_experiment(directory.experiment))
    check_sent_here(directory, experiment)
    show_dry_run(experiment, directory.path.resolve(), pilot, directory)


def show_dry_run(
    experiment: Experiment, where: Path, pilot: Path | None = None, run: RunDirectory | None = None
) -> None:
    """Checks an experiment and prints what would run.

    `where`: the folder that relative paths start from. `pilot`: an earlier run, which predicts what
    the planned blocks will show. `run`: the run to resume. Raises what a real run would raise
    before its first slow step.
    """
    console = open_console()
    progress = PlainProgress(console)
    if run is not None:
        check_free(run.path)
        if note := edit_warning(run, experiment):
            progress.log(f"warning: {note}")
    check_search(experiment)
    prepared = prepare(experiment, where, progress, need_models=False)
    allow_connections(prepared.experiment.workload, len(experiment.variants))
    with tempfile.TemporaryDirectory() as empty_folder:
        directory = run or RunDirectory(Path(empty_folder) / experiment.name)
        prepared = with_earlier_measurements(prepared, directory)
        plan = plan_serving(prepared, directory)
        artifacts = _artifacts(prepared, directory)
        for line in changes(prepared, directory):
            progress.log(line)
    stages = estimate_stages(prepared, plan, pace_here(prepared, plan, progress))
    on_resolution = _resolution_notes(experiment, pilot)
    servers = [_servers(plan, experiment)] if plan.servers else []
    for table in (_stages(experiment.name, stages), artifacts, *servers):
        console.print(table)
    notes_on_requests = [
        f"{name}: {line}" for name, lines in template_notes(prepared).items() for line in lines
    ]
    for note in (
        *_grid_notes(experiment),
        *plan.notes,
        *notes_on_requests,
        *_search_notes(experiment),
        *on_resolution,
    ):
        print_line(console, f"note: {note}")
    asked = " nor asked" if any(variant.url for variant in experiment.variants) else ""
    console.print(f"everything checks out; nothing was started{asked}")


def _stages(name: str, stages: Sequence[StageEstimate]) -> Table:
    """A row for each stage with its estimated time, and their sum."""
    title = f"{name}: what would run"
    table = Table("stage", "what", "about", "estimate", title=title, title_justify="left")
    for stage in stages:
        about = "the server decides" if stage.seconds is None else span(stage.seconds)
        table.add_row(stage.stage, stage.what, about, stage.basis)
    table.add_section()
    more = " and what the servers decide" if any(stage.seconds is None for stage in stages) else ""
    table.add_row("", f"in all{more}", span(total(stages)), "")
    return table


def _resolution_notes(experiment: Experiment, pilot: Path | None) -> list[str]:
    """What the planned blocks will show, predicted from an earlier run.

    Without a pilot: how the run itself will find out.
    """
    resolution = experiment.resolution
    if pilot is not None:
        run = existing_run(pilot)
        check_free(run.path)
        inputs = replace(run_inputs(run, load_experiment(run.experiment)), resolution=resolution)
        return [
            f"if it goes as in {pilot}: {sentence}"
            for sentence in forecast(inputs, experiment.workload.blocks)
        ]
    if resolution is None:
        return []
    change, max_time = percent(resolution.change), duration(resolution.max_time)
    return [
        f"the first {resolution.pilot} blocks tell how many a change of {change} takes, "
        f"within {max_time}; --pilot RUN tells it now, from an earlier run"
    ]


def _grid_notes(experiment: Experiment) -> list[str]:
    """How many variants the grids make."""
    grids = experiment.of_grids
    if not grids:
        return []
    counts = " and ".join(f"{count} by the grid of {name}" for name, count in grids.items())
    return [f"{len(experiment.variants)} variants, {counts}"]


def _search_notes(experiment: Experiment) -> list[str]:
    if (search := experiment.workload.search) is None:
        return []
    return [
        f"then a search up to {search.max_rate:g} requests/s, at most "
        f"{duration(search.max_time)} a variant"
    ]


def _artifacts(prepared: Prepared, run: RunDirectory) -> Table:
    """A row for each artifact of the experiment with its state in the run."""
    table = Table("artifact", "identity", "state", title="Artifacts", title_justify="left")
    for artifact in artifact_states(prepared, run):
        table.add_row(artifact.place, artifact.identity[:12], artifact.state)
    return table


def _servers(plan: ServePlan, experiment: Experiment) -> Table:
    """A row for each server, with the settings in which servers differ."""
    settings = differing_settings(experiment)
    table = Table("server", "variants", "memory", "dtype", title="Servers", title_justify="left")
    if has_settings := any(
        key.startswith("serve.") for of_variant in settings.values() for key in of_variant
    ):
        table.add_column("settings")
    for server in plan.servers:
        memory = f"{server.memory.total / 2**30:.1f} GiB"
        own = [
            f"{key.removeprefix('serve.').removeprefix('engine.')}={value}"
            for key, value in settings[server.variants[0].name].items()
            if key.startswith("serve.")
        ]
        variants = ", ".join(v.name for v in server.variants)
        texts = [server.name, variants, memory, server.dtype.dtype, ", ".join(own)]
        table.add_row(*texts if has_settings else texts[:-1])
    return table
