"""`dyno improve`: remedies applied, measured, and their expectation corrected."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from dyno.artifacts.record import source_of
from dyno.commands.dry_run import show_dry_run
from dyno.experiment.loading import load_experiment
from dyno.improve.measured_run import MeasuredRun, measure_run
from dyno.improve.rounds import (
    ImproveLimits,
    Rounds,
    check_improvable,
    exit_of,
    planner_of,
    shipping,
)
from dyno.pipeline.capacity import kept_plan
from dyno.pipeline.decide import decide
from dyno.terminal.improve import show_ending, show_round
from dyno.terminal.progress import open_console, progress_for
from dyno.terminal.results import show_results
from foundation.errors import BadInput, Exit, SystemFailed
from foundation.files.folder_lock import locked
from foundation.format import argument
from foundation.run.layout import existing_run
from foundation.units import parse_seconds


def improve_limits(rounds: int, max_time: str) -> ImproveLimits:
    """The limits of the command line. Raises BadInput."""
    try:
        seconds = parse_seconds(max_time)
    except ValueError as error:
        raise BadInput(f"--max-time: {error}") from None
    if seconds <= 0:
        raise BadInput("--max-time: write more than 0s")
    if rounds < 1:
        raise BadInput(f"--rounds: write 1 or more, not {rounds}")
    return ImproveLimits(rounds=rounds, seconds=seconds)


def improve(
    run_or_experiment: Path, out: Path, limits: ImproveLimits, *, live: bool = True
) -> Exit:
    """Improves a stored run, or runs an experiment first. Prints each round and the end.

    `live`: whether a terminal shows one screen while a round is measured.
    """
    console = open_console()
    first = _first(run_or_experiment, out, live)
    check_improvable(first)
    directory = first.directory
    with locked(directory.path):
        rounds = Rounds(
            first,
            limits,
            log=lambda line: console.print(line, soft_wrap=True),
            show=lambda round_: show_round(console, round_),
            measure=partial(measure_run, live=live),
        )
        try:
            record = rounds.run()
        except (KeyboardInterrupt, SystemFailed, OSError):
            console.print(
                f"what is whole is kept; go on with: dyno improve {argument(directory.path)}"
            )
            raise
        with progress_for(console, live=live) as progress:  # the report shows the rounds
            decide(directory, first.experiment, progress)
    show_ending(console, record, directory)
    return exit_of(record)


def _first(run_or_experiment: Path, out: Path, live: bool) -> MeasuredRun:
    """The run that is improved: a stored one, or that of an experiment file, measured first."""
    if run_or_experiment.is_dir():
        return MeasuredRun.read(existing_run(run_or_experiment))
    experiment = load_experiment(run_or_experiment)
    where = run_or_experiment.resolve().parent
    source = source_of(run_or_experiment)
    first = measure_run(experiment, where, out, source=source, live=live)
    plan = kept_plan(first.directory, first.experiment)
    show_results(open_console(), first.directory, first.summary, first.verdicts, plan)
    return first


def show_first_round(run_or_experiment: Path) -> None:
    """Checks everything, and prints the remedies of the first round; it starts nothing."""
    console = open_console()
    if not run_or_experiment.is_dir():
        experiment = load_experiment(run_or_experiment)
        show_dry_run(experiment, run_or_experiment.resolve().parent)
        console.print("the remedies of the first round depend on the verdict of this run")
        return
    first = MeasuredRun.read(existing_run(run_or_experiment))
    check_improvable(first)
    if (verdict := shipping(first)) is not None:
        console.print(f"nothing to improve: {verdict.headline}", soft_wrap=True)
        return
    planner = planner_of(first)
    planned = planner.next(first, 1, float("inf"))
    if planned is None:
        for each in planner.skipped:
            console.print(f"left out: {each.remedy}: {each.why}", soft_wrap=True)
        console.print("no remedy is left to try")
        return
    show_round(console, planned.record)
    for tried in planned.record.tried:
        console.print(f"\n{tried.change}", soft_wrap=True)
    show_dry_run(planned.experiment, first.directory.path.resolve())
