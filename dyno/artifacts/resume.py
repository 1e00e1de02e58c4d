"""Going on with a run: what of it still is what is asked for, what changed, and what is set aside."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from dyno.artifacts.artifact import Artifact, changed_facts
from dyno.artifacts.graph import Graph, without_styles
from dyno.artifacts.record import MOST_LINES, Record, Source, read_record, write_record
from dyno.artifacts.stored import (
    State,
    is_done,
    mark,
    read_mark,
    set_aside,
    state_of,
    take_its_place,
)
from dyno.pipeline.prepare import write_prompts
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.relative_rates import read_rates
from foundation.files.content_hash import identity_of
from foundation.progress import Progress
from foundation.run.journal import identity_in, is_whole, journal_files, read_prompts
from foundation.run.json_files import read_environment
from foundation.run.layout import RunDirectory
from loadgen.prompts.exact_length import Correction


@dataclass(frozen=True)
class ArtifactState:
    """The place and identity of an artifact, and its state in a run, in words."""

    place: str
    identity: str
    state: str


_WORDS: dict[State, str] = {
    "done": "there",
    "missing": "to be made",
    "unmarked": "there, but does not say what it is; to be made again",
    "other": "made of something else; to be made again",
    "damaged": "damaged; to be made again",
}


def with_earlier_measurements(prepared: Prepared, run: RunDirectory) -> Prepared:
    """The experiment with prompts of corrected length and relative rates from an earlier try."""
    if is_done(run.prompts, prepared.graph.prompts_file) and (stored := read_mark(run.prompts)):
        corrections = {
            name: msgspec.convert(each, Correction)
            for name, each in stored.more.get("corrections", {}).items()
        }
        prompts = list(read_prompts(run.path).values())
        prepared = replace(prepared, prompts=prompts, corrections=corrections)
    if is_done(run.rates, prepared.graph.rates) and (
        rates := read_rates(run.rates, prepared.experiment)
    ):
        prepared = replace(prepared, rates={label: each.rate for label, each in rates.items()})
    return prepared


def keep_prompts(prepared: Prepared, run: RunDirectory) -> None:
    """Write `prompts.jsonl`, and beside it how servers count."""
    write_prompts(prepared.prompts, run.prompts)
    corrections = {name: msgspec.to_builtins(each) for name, each in prepared.corrections.items()}
    mark(run.prompts, prepared.graph.prompts_file, {"corrections": corrections})


def artifact_states(prepared: Prepared, run: RunDirectory) -> list[ArtifactState]:
    """The state of every artifact of the experiment in a run."""
    graph = prepared.graph
    stored = {graph.place(artifact): artifact for artifact in graph.folders}
    stored[run.prompts.name] = graph.prompts_file
    states = [
        ArtifactState(place, artifact.identity, _WORDS[state_of(run.path / place, artifact)])
        for place, artifact in stored.items()
    ]
    return states + [
        ArtifactState(name, artifact.identity, _block_state(prepared, run, name, artifact))
        for name, artifact in graph.measured().items()
    ]


def _block_state(prepared: Prepared, run: RunDirectory, folder: str, artifact: Artifact) -> str:
    """How many of a measurement's blocks a run has, in words."""
    files = journal_files(run.path / folder)
    whole = sum(is_whole(file, artifact.identity) for file in files)
    others = sum(identity_in(file) not in (None, artifact.identity) for file in files)
    is_probe = folder.rpartition("/")[2].startswith("probe-")
    planned = 1 if is_probe else prepared.experiment.workload.blocks
    if not files:
        return f"{planned} block{'s' if planned > 1 else ''} to be measured"
    return f"{whole} of {planned} blocks there" + (
        f", {others} of something else" if others else ""
    )


def reconcile(
    prepared: Prepared,
    run: RunDirectory,
    progress: Progress,
    source: Source | None = None,
    *,
    measures: bool = True,
) -> None:
    """Name what changed since the run began, set aside what depends on it, and write down what is asked for now.

    Without `measures`, journals and what was asked stay, as long as all that was made for them does.
    """
    before = read_record(run)
    for line in changes(prepared, run):
        progress.log(line)
    folders = list(_stale_folders(prepared, run))
    measured = list(_stale_measurements(prepared, run)) if measures or folders else []
    for line in (*folders, *measured):
        progress.log(line)
    if measures or not before.artifacts:
        artifacts = {
            name: each.recorded() for name, each in _as_asked(prepared).graph.all().items()
        }
        write_record(
            run, Record(source=source or before.source, artifacts=artifacts, weights=before.weights)
        )


def changes(prepared: Prepared, run: RunDirectory) -> list[str]:
    """What is asked for otherwise than when the run was begun or last gone on with, a line each."""
    asked = _as_asked(prepared)
    now = asked.graph.all()
    lines = dict.fromkeys(changed_facts(read_record(run).artifacts, now))
    claimed = {
        name: each.recorded() for name, each in _as_the_environment_says(asked, run).all().items()
    }
    lines |= dict.fromkeys(changed_facts(claimed, now))
    more = [f"and {len(lines) - MOST_LINES} more changes"] if len(lines) > MOST_LINES else []
    return [f"since {run.path.name} began: {line}" for line in list(lines)[:MOST_LINES]] + more


def _as_asked(prepared: Prepared) -> Prepared:
    """Less what was measured for it: that a server counts otherwise, or holds so much, is no change of what is asked for."""
    if not prepared.corrections and not prepared.rates:
        return prepared
    prompts = [without_styles(prompt, prepared.corrections) for prompt in prepared.prompts]
    return replace(prepared, prompts=prompts, corrections={}, rates={})


def settle_weights(prepared: Prepared, run: RunDirectory, progress: Progress) -> bool:
    """Compare weights that were made with those of an earlier try: what is made again may come out otherwise.

    All that was made or measured of other weights, directly or not, is set aside. Returns whether any folder was.
    """
    graph, record = prepared.graph, read_record(run)
    folders = {graph.place(each): each for each in graph.folders}
    here = {
        each.identity: digest
        for place, each in folders.items()
        if (digest := _weights(run.path / place))
    }
    other = {
        identity
        for identity, digest in here.items()
        if record.weights.get(identity, digest) != digest
    }
    stale = {place: each for place, each in folders.items() if _rests_on(each, other)}
    lost = [place for place in stale if (run.path / place).exists()]
    for place in lost:
        set_aside(run, run.path / place)
        progress.log(f"{place}: to be made again, since what it is made of came out otherwise")
    for name, (artifact, files) in _journals(prepared, run).items():
        if files and _rests_on(artifact, other):
            for file in files:
                set_aside(run, file)
            progress.log(f"{name}: to be measured again, since its weights came out otherwise")
    # What is made again of these may be anything: there is nothing left that it could be mixed with.
    gone = {each.identity for each in stale.values()}
    weights = {
        identity: digest
        for identity, digest in (record.weights | here).items()
        if identity not in gone
    }
    write_record(run, msgspec.structs.replace(record, weights=weights))
    return bool(lost)


def _rests_on(artifact: Artifact, others: Set[str]) -> bool:
    """Whether one of these identities is an input, or an input of an input."""
    return any(
        each.identity in others for part in artifact.inputs.values() for each in part.with_inputs()
    )


def _journals(prepared: Prepared, run: RunDirectory) -> dict[str, tuple[Artifact, list[Path]]]:
    """Those of every stage and probe, and the answers that students learn from, by name."""
    graph = prepared.graph
    found = {
        name: (each, journal_files(run.path / name)) for name, each in graph.measured().items()
    }
    for answers in (graph.answers(v) for v in prepared.experiment.variants if v.distil):
        file = run.path / f"{answers.name}.jsonl"
        found[answers.name] = (answers, [file] if file.exists() else [])
    return found


def _weights(folder: Path) -> str | None:
    mark = read_mark(folder)
    return (
        identity_of(
            {name: f.sha256 for name, f in mark.files.items() if name.endswith(".safetensors")}
        )
        if mark
        else None
    )


def _as_the_environment_says(prepared: Prepared, run: RunDirectory) -> Graph:
    """The graph with the machine and versions of `environment.json`, where it says them."""
    whole, outside = read_environment(run.path).whole, prepared.outside
    hardware, versions = whole.get("hardware"), whole.get("versions")
    if isinstance(hardware, dict):
        outside = replace(outside, machine={name: hardware.get(name) for name in outside.machine})
    if isinstance(versions, dict):
        outside = replace(outside, versions=versions)
    return replace(prepared, outside=outside).graph


def _stale_folders(prepared: Prepared, run: RunDirectory) -> Iterator[str]:
    """Sets aside each adapter and checkpoint that is not what is asked for, in words."""
    graph = prepared.graph
    places = {graph.place(each): each for each in graph.folders}
    for place, artifact in places.items():
        take_its_place(run, place, artifact)
        state = state_of(run.path / place, artifact)
        if state not in ("done", "missing"):
            moved = set_aside(run, run.path / place)
            yield f"{place}: {_WORDS[state]}; the old one lies in {moved.relative_to(run.path)}"


def _stale_measurements(prepared: Prepared, run: RunDirectory) -> Iterator[str]:
    """Sets aside prompts, rates, and each journal of something else: by its own word, or by the run's environment."""
    graph = prepared.graph
    for file, artifact in ((run.prompts, graph.prompts_file), (run.rates, graph.rates)):
        if state_of(file, artifact) not in ("done", "missing"):
            set_aside(run, file)
    measured = {folder: each.identity for folder, each in graph.measured().items()}
    claimed = {
        folder: each.identity
        for folder, each in _as_the_environment_says(prepared, run).measured().items()
    }
    counts: dict[str, int] = {}
    for file in journal_files(run.path / "load"):
        folder = str(file.parent.relative_to(run.path))
        identity = identity_in(file)
        # One without a header was cut off before it began; what measures its block again sees to it.
        if identity is not None and {identity, claimed.get(folder)} != {measured.get(folder)}:
            set_aside(run, file)
            counts[folder] = counts.get(folder, 0) + 1
    for folder, count in counts.items():
        again = "to be measured again" if folder in measured else "no longer asked for"
        yield f"{folder}: {count} block{'s' if count > 1 else ''} {again}; the old journals lie in set-aside/"
