"""Opens a run directory for a command that runs a part of the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dyno.artifacts.resume import with_earlier_measurements
from dyno.experiment.loading import load_experiment
from dyno.experiment.names import no_variant
from dyno.experiment.schema import Experiment
from dyno.pipeline.begin import begin_stage
from dyno.pipeline.part_runs import check_sent_here
from dyno.pipeline.prepare import prepare
from dyno.pipeline.prepared import Prepared
from dyno.terminal.progress import open_console, progress_for
from foundation.errors import BadInput
from foundation.files.folder_lock import check_free
from foundation.files.scratch import own_temporary_files
from foundation.progress import Progress
from foundation.run.layout import RunDirectory, existing_run, held_run


@dataclass(frozen=True)
class OpenedRun:
    """A prepared experiment, its run directory and its progress."""

    prepared: Prepared
    directory: RunDirectory
    progress: Progress


@contextmanager
def opened_run(
    experiment_or_run: Path,
    out: Path,
    variants: Collection[str] = (),
    change: Callable[[Experiment], Experiment] = lambda experiment: experiment,
    *,
    live: bool = True,
) -> Iterator[OpenedRun]:
    """Prepares an experiment file in a new run directory under `out`, or an existing run.

    `variants`: names that must be variants of it. `change`: what the flags do to the experiment.
    `live`: whether a terminal shows one screen while the command goes on.
    Holds the directory's lock until the block ends. Raises BadInput for mistakes in the experiment,
    and for a run that several hosts sent.
    """
    existing = existing_run(experiment_or_run) if experiment_or_run.is_dir() else None
    file = existing.experiment if existing else experiment_or_run
    experiment = load_experiment(file)
    names = [variant.name for variant in experiment.variants]
    for name in variants:
        if name not in names:
            raise BadInput(f"--variant: {no_variant(name, names)}")
    if existing is not None:
        check_free(existing.path)
    experiment = change(experiment)
    if existing is not None:
        check_sent_here(existing, experiment)
    with opened_experiment(experiment, file.resolve().parent, existing or out, live=live) as run:
        yield run


@contextmanager
def opened_experiment(
    experiment: Experiment, where: Path, at: RunDirectory | Path, *, live: bool = True
) -> Iterator[OpenedRun]:
    """Prepares an experiment in the existing run `at`, or in a new one in the folder `at`.

    `where`: the folder that relative paths start from. Holds the directory's lock until the block
    ends. Raises BadInput for mistakes in the experiment.
    """
    with (
        own_temporary_files(),
        progress_for(open_console(), live=live) as progress,
        held_run(at) as folder,
    ):
        prepared = prepare(experiment, where, progress)
        directory = folder(experiment.name)
        prepared = with_earlier_measurements(prepared, directory)
        begin_stage(prepared, directory, progress)
        yield OpenedRun(prepared, directory, progress)
