"""`artifacts.json`: what a run makes and measures, and the experiment file that it came from."""

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
from foundation.run.layout import RunDirectory

RECORD = "artifacts.json"
MOST_LINES = 20
_OF_THE_COMMAND_LINE = ("until_decided", "resolution")


class Source(msgspec.Struct, frozen=True):
    """The experiment file that a run was started from, and its SHA-256."""

    file: str
    sha256: str


class Record(msgspec.Struct, kw_only=True):
    """`artifacts`: what `Artifact.recorded` says of each, by name. `weights`: by identity, a hash of those that were made."""

    schema_version: int = 1
    source: Source | None = None
    artifacts: dict[str, Any] = {}
    weights: dict[str, str] = {}


def source_of(file: Path) -> Source:
    """The file as a run's record names it."""
    return Source(str(file.resolve()), file_sha256(file))


def read_record(run: RunDirectory) -> Record:
    """What was asked for when the run was begun or last gone on with; empty where nobody wrote it, or it is damaged."""
    try:
        return msgspec.json.decode((run.path / RECORD).read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Record()


def write_record(run: RunDirectory, record: Record) -> None:
    write_whole(
        run.path / RECORD, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
    )


def edited(run: RunDirectory, experiment: Experiment) -> str | None:
    """That the file a run was started from was edited since, and how; None where it was not, or is gone."""
    source = read_record(run).source
    if (
        source is None
        or not (file := Path(source.file)).is_file()
        or file_sha256(file) == source.sha256
    ):
        return None
    try:
        differences = _differences(experiment, resolved(load_experiment(file), file.parent))
    except BadInput as error:
        differences = [f"it can't be read now: {error}"]
    if not differences:
        return None
    return (
        f"{file} was edited since this run began ({'; '.join(differences[:MOST_LINES])}), and the run goes on with its own copy; "
        f"edit {run.experiment} too, or start a new run"
    )


def _differences(ours: Experiment, theirs: Experiment) -> list[str]:
    """As the run directory would keep either: without secrets."""
    ours_kept, theirs_kept = (Artifact("experiment", _kept(each)) for each in (ours, theirs))
    lines = changed_facts({"experiment": ours_kept.recorded()}, {"experiment": theirs_kept})
    return [line.removeprefix("experiment: ") for line in lines]


def _kept(experiment: Experiment) -> dict[str, Any]:
    """Less what no file says: drawn salts, and the run's length by the command line."""
    read = yaml.safe_load(experiment.as_yaml())
    read["workload"].pop("cache_salt", None)
    return {key: value for key, value in read.items() if key not in _OF_THE_COMMAND_LINE}
