"""Runs a pipeline whose folders may already lie in earlier runs, and reads a run's verdicts."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dyno.artifacts.record import Source
from dyno.artifacts.stored import is_done, read_mark
from dyno.experiment.loading import load_experiment
from dyno.experiment.schema import Experiment
from dyno.pipeline.block_runner import Interrupted
from dyno.pipeline.decide import run_inputs
from dyno.pipeline.prepare import prepare
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.run import run_pipeline
from dyno.pipeline.serving import plan_serving
from dyno.terminal.progress import open_console, progress_for
from dyno.terminal.results import outage
from foundation.errors import BadInput, SystemFailed
from foundation.files.scratch import own_temporary_files
from foundation.format import argument
from foundation.progress import Silent
from foundation.run.layout import RunDirectory, held_run
from loadgen.sending.descriptors import allow_connections
from results.analysis import analyse
from results.decision.verdict import judge
from results.inputs import RunInputs
from results.summary import Summary, Verdicts
from serve import ServePlan


@dataclass(frozen=True)
class MeasuredRun:
    """A run that was measured, with its verdicts."""

    directory: RunDirectory
    experiment: Experiment
    inputs: RunInputs
    summary: Summary
    verdicts: Verdicts

    @classmethod
    def read(cls, directory: RunDirectory) -> MeasuredRun:
        """Reads the journals of a run and judges it; writes nothing.

        Raises BadInput for a run without a journal.
        """
        experiment = load_experiment(directory.experiment)
        inputs = run_inputs(directory, experiment)
        summary = analyse(inputs)
        return cls(directory, experiment, inputs, summary, judge(summary, inputs))


def measure_run(
    experiment: Experiment,
    where: Path,
    at: RunDirectory | Path,
    earlier: Sequence[RunDirectory] = (),
    source: Source | None = None,
    *,
    live: bool = True,
) -> MeasuredRun:
    """Runs the pipeline at `at` as `dyno run` does, without the output.

    `source`: the experiment file of a run that is begun.
    Adapters and checkpoints that one of the `earlier` runs has are not made again. Raises what the
    pipeline raises, and SystemFailed where no request succeeded.
    """
    with (
        own_temporary_files(),
        progress_for(open_console(), live=live) as progress,
        held_run(at) as folder,
    ):
        prepared = prepare(experiment, where, progress)
        allow_connections(prepared.experiment.workload, len(experiment.variants))
        directory = folder(experiment.name)
        progress.watch(directory)
        for place in reuse(prepared, directory, earlier):
            progress.log(f"{place}: there already, from an earlier run")
        try:
            summary, verdicts = run_pipeline(prepared, directory, progress, source)
        except (Interrupted, KeyboardInterrupt, SystemFailed, OSError) as error:
            if source is not None:
                progress.log(
                    f"go on with: dyno run --resume {argument(directory.path)}, then dyno improve "
                    f"{directory.path}"
                )
            if isinstance(error, Interrupted):
                raise KeyboardInterrupt from None
            raise
    if problem := outage(summary):
        raise SystemFailed(problem)
    inputs = run_inputs(directory, prepared.experiment)
    return MeasuredRun(directory, prepared.experiment, inputs, summary, verdicts)


@contextmanager
def checked_run(experiment: Experiment, where: Path) -> Iterator[tuple[Prepared, ServePlan]]:
    """An experiment as it would run in a new folder, with its servers. Raises BadInput."""
    with own_temporary_files(), tempfile.TemporaryDirectory() as empty:
        prepared = prepare(experiment, where, Silent())
        yield prepared, plan_serving(prepared, RunDirectory(Path(empty)))


def check_run(experiment: Experiment, where: Path) -> str | None:
    """Why an experiment can't be run here; None where it can."""
    try:
        with checked_run(experiment, where):
            return None
    except BadInput as error:
        return str(error)


def reuse(
    prepared: Prepared, directory: RunDirectory, earlier: Sequence[RunDirectory]
) -> Iterator[str]:
    """Links the folders that earlier runs have of the same identity, and yields their places."""
    made = folders_by_identity(earlier)
    for artifact in prepared.graph.folders:
        target = prepared.path(artifact, directory)
        path = made.get(artifact.identity)
        if path is None or target.exists() or not is_done(path, artifact):
            continue
        partial = RunDirectory.partial(target)
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(path, partial, copy_function=_link)
        partial.rename(target)
        yield str(target.relative_to(directory.path))


def folders_by_identity(runs: Sequence[RunDirectory]) -> dict[str, Path]:
    """The adapters and checkpoints of runs, by the identity that each is marked with."""
    folders = [
        path
        for run in runs
        for kind in ("adapters", "checkpoints")
        for path in run.path.glob(f"{kind}/*")
    ]
    return {mark.identity: path for path in folders if (mark := read_mark(path))}


def _link(source: str, target: str) -> None:
    """Links a file, which nobody writes again. Copies it where the disk has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
