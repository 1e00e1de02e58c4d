"""Going on with a run: what of it still is what is asked for, what changed, and what is set aside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from dyno.artifacts import Artifact, changed_facts
from dyno.experiment import Experiment, load_experiment
from dyno.kept import State, is_done, mark, read_mark, set_aside, state_of
from dyno.prepare import Prepared, write_prompts
from dyno.rates import read_rates
from dyno.run_directory import RunDirectory
from foundation.contents import file_sha256
from foundation.errors import BadInput
from foundation.places import resolved
from foundation.progress import Progress
from foundation.whole_file import write_whole
from loadgen.wording import Correction
from results.journal import identity_in, is_whole, journal_files, read_prompts

RECORD = "artifacts.json"
_MOST_LINES = 20


class Source(msgspec.Struct, frozen=True):
    """The experiment file that a run was started from, and its SHA-256."""

    file: str
    sha256: str


class Record(msgspec.Struct):
    """`artifacts.json`: what the run makes and measures, by name, and the experiment file it came from."""

    schema_version: int = 1
    source: Source | None = None
    artifacts: dict[str, Any] = {}


@dataclass(frozen=True)
class Standing:
    """An artifact, and how it stands in a run, in words."""

    place: str
    identity: str
    words: str


_WORDS: dict[State, str] = {
    "done": "there",
    "missing": "to be made",
    "unmarked": "there, but does not say what it is; to be made again",
    "other": "made of something else; to be made again",
    "damaged": "damaged; to be made again",
}


def source_of(file: Path) -> Source:
    return Source(str(file.resolve()), file_sha256(file))


def taken_up(prepared: Prepared, run: RunDirectory) -> Prepared:
    """The experiment with what an earlier try of this run measured for it: prompts cut to length, and relative rates."""
    if is_done(run.prompts, prepared.graph.prompts_file) and (kept := read_mark(run.prompts)):
        corrections = {name: msgspec.convert(each, Correction) for name, each in kept.more.get("corrections", {}).items()}
        prompts = list(read_prompts(run.path).values())
        prepared = replace(prepared, prompts=prompts, corrections=corrections)
    if is_done(run.rates, prepared.graph.rates) and (rates := read_rates(run.rates, prepared.experiment)):
        prepared = replace(prepared, rates={label: each.rate for label, each in rates.items()})
    return prepared


def keep_prompts(prepared: Prepared, run: RunDirectory) -> None:
    """Write `prompts.jsonl`, and beside it how servers count."""
    write_prompts(prepared.prompts, run.prompts)
    corrections = {name: msgspec.to_builtins(each) for name, each in prepared.corrections.items()}
    mark(run.prompts, prepared.graph.prompts_file, {"corrections": corrections})


def standings(prepared: Prepared, run: RunDirectory) -> list[Standing]:
    """How every artifact of the experiment stands in a run."""
    graph = prepared.graph
    made = {graph.place(each): each for each in graph.folders} | {run.prompts.name: graph.prompts_file}
    folders = [Standing(place, a.identity, _WORDS[state_of(run.path / place, a)]) for place, a in made.items()]
    return folders + [Standing(name, a.identity, _blocks(prepared, run, name, a)) for name, a in graph.measured().items()]


def _blocks(prepared: Prepared, run: RunDirectory, folder: str, artifact: Artifact) -> str:
    files = journal_files(run.path / folder)
    whole = sum(is_whole(file, artifact.identity) for file in files)
    others = sum(identity_in(file) not in (None, artifact.identity) for file in files)
    planned = 1 if folder.rpartition("/")[2].startswith("probe-") else prepared.experiment.workload.blocks
    if not files:
        return f"{planned} block{'s' if planned > 1 else ''} to be measured"
    return f"{whole} of {planned} blocks there" + (f", {others} of something else" if others else "")


def reconcile(prepared: Prepared, run: RunDirectory, progress: Progress, source: Source | None = None) -> None:
    """Name what changed since the run began, set aside what depends on it, and write down what is asked for now."""
    before = read_record(run)
    for line in changes(prepared, run):
        progress.log(line)
    for line in _set_stale_aside(prepared, run):
        progress.log(line)
    artifacts = {name: each.recorded() for name, each in prepared.graph.all().items()}
    record = Record(source=source or (before.source if before else None), artifacts=artifacts)
    write_whole(run.path / RECORD, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


def read_record(run: RunDirectory) -> Record | None:
    """What was asked for when the run was begun or last gone on with; None where nobody wrote it, or it is damaged."""
    try:
        return msgspec.json.decode((run.path / RECORD).read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def edited(run: RunDirectory, experiment: Experiment) -> str | None:
    """That the file a run was started from was edited since, and how; None where it was not, or is gone."""
    record = read_record(run)
    source = record.source if record else None
    if source is None or not (file := Path(source.file)).is_file() or file_sha256(file) == source.sha256:
        return None
    try:
        differs = _settings_that_differ(experiment, resolved(load_experiment(file), file.parent))
    except BadInput as error:
        differs = [f"it can't be read now: {error}"]
    if not differs:
        return None
    return (
        f"{file} was edited since this run began ({'; '.join(differs[:_MOST_LINES])}), and the run goes on with its own copy; "
        f"edit {run.experiment} too, or start a new run"
    )


def _settings_that_differ(ours: Experiment, theirs: Experiment) -> list[str]:
    """Drawn salts, and what the command line said of the run's length, are in no file."""
    of_the_run = {"until_decided", "resolution"}
    dumps = []
    for each in (ours, theirs):
        dumped = each.model_dump(mode="json", exclude=of_the_run)
        dumped["workload"].pop("cache_salt")
        dumps.append(dumped)
    artifact = Artifact("experiment", dumps[1])
    return changed_facts({"experiment": Artifact("experiment", dumps[0]).recorded()}, {"experiment": artifact})


def changes(prepared: Prepared, run: RunDirectory) -> list[str]:
    """What is asked for otherwise than when the run was begun or last gone on with, a line each."""
    before = read_record(run)
    lines = changed_facts(before.artifacts, prepared.graph.all()) if before else []
    more = [f"and {len(lines) - _MOST_LINES} more changes"] if len(lines) > _MOST_LINES else []
    return [f"since {run.path.name} began: {line}" for line in lines[:_MOST_LINES]] + more


def _set_stale_aside(prepared: Prepared, run: RunDirectory) -> Iterator[str]:
    graph = prepared.graph
    places = {graph.place(each): each for each in graph.folders}
    for place, artifact in places.items():
        state = state_of(run.path / place, artifact)
        if state not in ("done", "missing"):
            moved = set_aside(run, run.path / place)
            yield f"{place}: {_WORDS[state]}; the old one lies in {moved.relative_to(run.path)}"
    for file, artifact in ((run.prompts, graph.prompts_file), (run.rates, graph.rates)):
        if state_of(file, artifact) not in ("done", "missing"):
            set_aside(run, file)
    measured = {folder: artifact.identity for folder, artifact in graph.measured().items()}
    counts: dict[str, int] = {}
    for file in journal_files(run.path / "load"):
        folder = str(file.parent.relative_to(run.path))
        identity = identity_in(file)
        # One without a header was cut off before it began; what measures its block again sees to it.
        if identity is not None and identity != measured.get(folder):
            set_aside(run, file)
            counts[folder] = counts.get(folder, 0) + 1
    for folder, count in counts.items():
        again = "to be measured again" if folder in measured else "no longer asked for"
        yield f"{folder}: {count} block{'s' if count > 1 else ''} {again}; the old journals lie in set-aside/"
