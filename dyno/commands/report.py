"""`dyno report`: makes summary, verdict and report of a stored run again from its journals."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dyno.experiment.loading import load_experiment
from dyno.pipeline.capacity import kept_plan
from dyno.pipeline.decide import decide
from dyno.terminal.progress import open_console, progress_for
from dyno.terminal.results import show_results
from foundation.errors import BadInput
from foundation.files.folder_lock import locked
from foundation.format import argument
from foundation.run.layout import RunDirectory, existing_run
from results.summary import Summary, Verdicts


def rebuild(run: Path) -> tuple[Summary, Verdicts]:
    """Makes summary, verdict and report again from the journals."""
    directory = existing_run(run)
    console = open_console()
    with progress_for(console) as progress, locked(directory.path):
        experiment = load_experiment(directory.experiment)
        summary, verdicts = decide(directory, experiment, progress)
    show_results(console, directory, summary, verdicts, kept_plan(directory, experiment))
    return summary, verdicts


def read_summary(directory: RunDirectory) -> Summary:
    """The contents of a run's `summary.json`. Raises BadInput if it is missing or unreadable."""
    file = directory.path / "summary.json"
    try:
        return msgspec.json.decode(file.read_bytes(), type=Summary)
    except FileNotFoundError:
        raise BadInput(
            f"{file}: not there yet; make it with: dyno report {argument(directory.path)}"
        ) from None
    except msgspec.MsgspecError as error:
        raise BadInput(
            f"{file}: {error}; make it again with: dyno report {argument(directory.path)}"
        ) from None
