"""`dyno run`: runs an experiment's pipeline and prints its results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from dyno.artifacts.record import edit_warning, source_of
from dyno.experiment.examples import example
from dyno.experiment.loading import load_experiment
from dyno.experiment.schema import Experiment
from dyno.pipeline.block_runner import Interrupted
from dyno.pipeline.capacity import kept_plan
from dyno.pipeline.part_runs import check_sent_here
from dyno.pipeline.prepare import prepare
from dyno.pipeline.run import run_pipeline
from dyno.terminal import streams
from dyno.terminal.progress import open_console, progress_for
from dyno.terminal.results import outage, results_json, show_results
from foundation.errors import SystemFailed
from foundation.files.scratch import own_temporary_files
from foundation.format import argument
from foundation.run.layout import RunDirectory, existing_run, held_run
from loadgen.sending.descriptors import allow_connections
from results.summary import Summary, Verdicts


@dataclass(frozen=True, kw_only=True)
class StoppingRule:
    """When a run stops to measure, from the flags of `dyno run`; None leaves it to the file."""

    decided: bool = False
    resolution: str | None = None
    max_time: str | None = None

    def applied(self, experiment: Experiment) -> Experiment:
        """The experiment with this rule. Raises BadInput for flags that do not go together."""
        return experiment.with_stopping_rule(self.decided, self.resolution, self.max_time)


@dataclass(frozen=True, kw_only=True)
class RunOutput:
    """What a run prints, beside the results and before them.

    `first`: a line before anything starts. `excerpt`: whether to print one answer. `as_json`:
    whether results go to standard output as JSON, and everything for people to standard error.
    `live`: whether a terminal shows one screen while the run goes on, instead of lines.
    """

    first: str = ""
    excerpt: bool = False
    as_json: bool = False
    live: bool = True


def run_file(
    file: Path, out: Path, rule: StoppingRule = StoppingRule(), output: RunOutput = RunOutput()
) -> tuple[Summary, Verdicts]:
    """Runs an experiment file in a new run directory under `out`."""
    experiment = rule.applied(load_experiment(file))
    return run_experiment(experiment, file.resolve().parent, out, file=file, output=output)


def run_demo(
    out: Path, *, quick: bool = False, output: RunOutput = RunOutput()
) -> tuple[Summary, Verdicts]:
    """Runs the example experiment on a small real model, or with `quick` the shorter one."""
    return run_file(example("news-topics-quick" if quick else "news-topics"), out, output=output)


def resume_run(
    run: Path, rule: StoppingRule, output: RunOutput = RunOutput()
) -> tuple[Summary, Verdicts]:
    """Resumes a run that was cut off."""
    directory = existing_run(run)
    experiment = rule.applied(load_experiment(directory.experiment))
    check_sent_here(directory, experiment)
    return run_experiment(experiment, directory.path.resolve(), directory, output=output)


def run_experiment(
    experiment: Experiment,
    where: Path,
    at: RunDirectory | Path,
    *,
    file: Path | None = None,
    output: RunOutput = RunOutput(),
) -> tuple[Summary, Verdicts]:
    """Runs the pipeline, then prints the results.

    `where`: the folder that relative paths start from. `at`: the run to resume, or the folder for
    a new run directory, which is made once everything was checked. `file`: the experiment file of
    a new run. Raises SystemFailed if no request succeeded.
    """
    console = open_console(stderr=output.as_json)
    with (
        own_temporary_files(),
        progress_for(console, live=output.live) as progress,
        held_run(at) as folder,
    ):
        if output.first:
            progress.log(output.first)
        if isinstance(at, RunDirectory) and (note := edit_warning(at, experiment)):
            progress.log(f"warning: {note}")
        prepared = prepare(experiment, where, progress)
        allow_connections(prepared.experiment.workload, len(experiment.variants))
        directory = folder(experiment.name)
        progress.watch(directory)
        source = source_of(file) if file else None
        try:
            summary, verdicts = run_pipeline(prepared, directory, progress, source)
        except (Interrupted, KeyboardInterrupt):
            progress.log(f"interrupted; go on with: dyno run --resume {argument(directory.path)}")
            raise KeyboardInterrupt from None
        except (SystemFailed, OSError):
            if directory.experiment.exists():
                again = f"dyno run --resume {argument(directory.path)}"
                progress.log(f"what is whole is kept; go on with: {again}")
            raise
    print_results(console, directory, prepared.experiment, (summary, verdicts), output)
    return summary, verdicts


def print_results(
    console: Console,
    run: RunDirectory,
    experiment: Experiment,
    results: tuple[Summary, Verdicts],
    output: RunOutput,
) -> None:
    """Prints the results of a run. Raises SystemFailed if no request succeeded."""
    summary, verdicts = results
    if output.as_json:
        streams.print_utf8(results_json(run, summary, verdicts))
    else:
        plan = kept_plan(run, experiment)
        show_results(console, run, summary, verdicts, plan, excerpt=output.excerpt)
    if problem := outage(summary):
        raise SystemFailed(problem)
