"""`artifacts.json`: the artifacts of a run, and the experiment file that it started from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import yaml

from dyno.artifacts.artifact import Artifact, changed_facts
from dyno.experiment.loading import load_experiment
from dyno.experiment.schema import Experiment
from foundation.errors import BadInput
from foundation.files.atomic_write import write_whole
from foundation.files.content_hash import file_sha256
from foundation.path_fields import resolved
from foundation.run.layout import ARTIFACTS_FILE, RunDirectory

MOST_LINES = 20
_COMMAND_LINE_SECTIONS = ("until_decided", "resolution")


class Source(msgspec.Struct, frozen=True):
    """The experiment file that a run was started from, and its SHA-256."""

    file: str
    sha256: str


class Record(msgspec.Struct, kw_only=True):
    """The contents of `artifacts.json`.

    `artifacts`: `Artifact.recorded` of each, by name. `weights`: by identity, a hash of the weights
    that the run made.
    """

    schema_version: int = 1
    source: Source | None = None
    artifacts: dict[str, Any] = {}
    weights: dict[str, str] = {}


def source_of(file: Path) -> Source:
    """The path and SHA-256 of an experiment file, for a run's record."""
    return Source(str(file.resolve()), file_sha256(file))


def read_record(run: RunDirectory) -> Record:
    """The artifacts when the run began or was last resumed; empty if missing or damaged."""
    try:
        return msgspec.json.decode((run.path / ARTIFACTS_FILE).read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Record()


def write_record(run: RunDirectory, record: Record) -> None:
    """Writes `artifacts.json`."""
    contents = msgspec.json.format(msgspec.json.encode(record), indent=2)
    write_whole(run.path / ARTIFACTS_FILE, contents + b"\n")


def edit_warning(run: RunDirectory, experiment: Experiment) -> str | None:
    """A warning if the run's experiment file was edited since the run began.

    None if it was not, or if the file is gone.
    """
    source = read_record(run).source
    if source is None:
        return None
    file = Path(source.file)
    if not file.is_file() or file_sha256(file) == source.sha256:
        return None
    try:
        differences = _differences(experiment, resolved(load_experiment(file), file.parent))
    except BadInput as error:
        differences = [f"it can't be read now: {error}"]
    if not differences:
        return None
    return (
        f"{file} was edited since this run began ({'; '.join(differences[:MOST_LINES])}), "
        f"and the run goes on with its own copy; edit {run.experiment} too, or start a new run"
    )


def _differences(ours: Experiment, theirs: Experiment) -> list[str]:
    """The settings that differ, one line each, without secrets."""
    before, after = (
        Artifact("experiment", _settings(ours)),
        Artifact("experiment", _settings(theirs)),
    )
    lines = changed_facts({"experiment": before.recorded()}, {"experiment": after})
    return [line.removeprefix("experiment: ") for line in lines]


def _settings(experiment: Experiment) -> dict[str, Any]:
    """The settings less those that no file holds: a random salt, and the stopping rule."""
    settings: dict[str, Any] = yaml.safe_load(experiment.as_yaml())
    settings["workload"].pop("cache_salt", None)
    return {key: value for key, value in settings.items() if key not in _COMMAND_LINE_SECTIONS}
