"""Resumes a run: keeps what the experiment still asks for, and sets the rest aside."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from dyno.artifacts.artifact import Artifact, changed_facts
from dyno.artifacts.facts import without_styles
from dyno.artifacts.graph import Graph
from dyno.artifacts.record import MOST_LINES, Record, Source, read_record, write_record
from dyno.artifacts.stored import (
    State,
    finish_move,
    is_done,
    mark,
    read_mark,
    set_aside,
    state_of,
)
from dyno.pipeline.prepare import write_prompts
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.relative_rates import read_rates
from foundation.files.content_hash import identity_of
from foundation.progress import Progress
from foundation.run.journal import identity_in, is_whole, journal_files, read_prompts
from foundation.run.json_files import read_environment
from foundation.run.layout import SEARCH, RunDirectory, is_search_stage
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
    """Writes `prompts.jsonl`, and the corrections of prompt lengths into its mark."""
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
        for name, artifact in graph.measurements().items()
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
    """Logs changes since the run began, sets aside what depends on them, and records the rest.

    `source`: the experiment file of a new run. Without `measures`, the journals and the record stay
    unless a folder is set aside.
    """
    before = read_record(run)
    for line in changes(prepared, run):
        progress.log(line)
    folders = list(_set_aside_folders(prepared, run))
    journals = list(_set_aside_measurements(prepared, run)) if measures or folders else []
    for line in (*folders, *journals):
        progress.log(line)
    if measures or not before.artifacts:
        graph = _without_measurements(prepared).graph
        artifacts = {name: artifact.recorded() for name, artifact in graph.all().items()}
        write_record(
            run, Record(source=source or before.source, artifacts=artifacts, weights=before.weights)
        )


def changes(prepared: Prepared, run: RunDirectory) -> list[str]:
    """The facts that changed since the run began or was last resumed, a line each."""
    requested = _without_measurements(prepared)
    now = requested.graph.all()
    lines = dict.fromkeys(changed_facts(read_record(run).artifacts, now))
    earlier = _graph_of_environment(requested, run).all()
    recorded = {name: artifact.recorded() for name, artifact in earlier.items()}
    lines |= dict.fromkeys(changed_facts(recorded, now))
    more = [f"and {len(lines) - MOST_LINES} more changes"] if len(lines) > MOST_LINES else []
    return [f"since {run.path.name} began: {line}" for line in list(lines)[:MOST_LINES]] + more


def _without_measurements(prepared: Prepared) -> Prepared:
    """The experiment less corrections and rates, which a run measures and nobody asks for."""
    if not prepared.corrections and not prepared.rates:
        return prepared
    prompts = [without_styles(prompt, prepared.corrections) for prompt in prepared.prompts]
    return replace(prepared, prompts=prompts, corrections={}, rates={})


def settle_weights(prepared: Prepared, run: RunDirectory, progress: Progress) -> bool:
    """Compares the run's weights with those of an earlier try; training again may change them.

    Sets aside everything that was made or measured with other weights, directly or not. Returns
    whether any folder was set aside.
    """
    graph, record = prepared.graph, read_record(run)
    folders = {graph.place(artifact): artifact for artifact in graph.folders}
    weights = {
        artifact.identity: digest
        for place, artifact in folders.items()
        if (digest := _weights_sha256(run.path / place))
    }
    changed = {
        identity
        for identity, digest in weights.items()
        if record.weights.get(identity, digest) != digest
    }
    stale = {place: each for place, each in folders.items() if _depends_on(each, changed)}
    stale_folders = [place for place in stale if (run.path / place).exists()]
    for place in stale_folders:
        set_aside(run, run.path / place)
        progress.log(f"{place}: to be made again, since what it is made of came out otherwise")
    for name, (artifact, files) in _journals(prepared, run).items():
        if files and _depends_on(artifact, changed):
            for file in files:
                set_aside(run, file)
            _set_aside_outcome(run, name)
            progress.log(f"{name}: to be measured again, since its weights came out otherwise")
    # The next weights of a stale folder may be any, since nothing that depends on it is left.
    gone = {artifact.identity for artifact in stale.values()}
    valid = {
        identity: digest
        for identity, digest in (record.weights | weights).items()
        if identity not in gone
    }
    write_record(run, msgspec.structs.replace(record, weights=valid))
    return bool(stale_folders)


def _depends_on(artifact: Artifact, identities: Set[str]) -> bool:
    """Whether one of the identities is a direct or indirect input."""
    return any(
        each.identity in identities
        for part in artifact.inputs.values()
        for each in part.with_inputs()
    )


def _journals(prepared: Prepared, run: RunDirectory) -> dict[str, tuple[Artifact, list[Path]]]:
    """The journals of every stage, probe, model and teacher, by name, with their files."""
    graph = prepared.graph
    journals = {
        name: (artifact, journal_files(run.path / name))
        for name, artifact in {**graph.measurements(), **graph.loads_of_models()}.items()
    }
    for search in map(graph.search, prepared.experiment.variants):
        files = sorted((run.path / search.name).parent.glob(f"{SEARCH}*/block-*.jsonl"))
        probes = [file for file in files if is_search_stage(file.parent.name)]
        journals[search.name] = (search, probes)
    for answers in (graph.answers(v) for v in prepared.experiment.variants if v.distil):
        file = run.path / f"{answers.name}.jsonl"
        journals[answers.name] = (answers, [file] if file.exists() else [])
    return journals


def _weights_sha256(folder: Path) -> str | None:
    """A hash of the weights in a folder, from its mark; None if it has no mark."""
    mark = read_mark(folder)
    if mark is None:
        return None
    return identity_of(
        {name: f.sha256 for name, f in mark.files.items() if name.endswith(".safetensors")}
    )


def _graph_of_environment(prepared: Prepared, run: RunDirectory) -> Graph:
    """The graph with the machine and versions that `environment.json` names."""
    whole, externals = read_environment(run.path).whole, prepared.externals
    hardware, versions = whole.get("hardware"), whole.get("versions")
    if isinstance(hardware, dict):
        machine = {name: hardware.get(name) for name in externals.machine}
        externals = replace(externals, machine=machine)
    if isinstance(versions, dict):
        externals = replace(externals, versions=versions)
    return replace(prepared, externals=externals).graph


def _set_aside_folders(prepared: Prepared, run: RunDirectory) -> Iterator[str]:
    """Sets aside each adapter and checkpoint of another identity, and yields a line about it."""
    graph = prepared.graph
    places = {graph.place(each): each for each in graph.folders}
    for place, artifact in places.items():
        finish_move(run, place, artifact)
        state = state_of(run.path / place, artifact)
        if state not in ("done", "missing"):
            target = set_aside(run, run.path / place)
            yield f"{place}: {_WORDS[state]}; the old one lies in {target.relative_to(run.path)}"


def _identities(graph: Graph) -> dict[str, str]:
    """The identity of all journals, by the name of their folders."""
    searches = map(graph.search, graph.experiment.variants)
    journals = {**graph.measurements(), **graph.loads_of_models()}
    return {each.name: each.identity for each in (*journals.values(), *searches)}


def _folder_of(run: RunDirectory, journal: Path) -> str:
    """The folder of a journal in the run; one name for the folders of all probes of a search."""
    folder = journal.parent
    if is_search_stage(folder.name):
        folder = folder.with_name(f"{SEARCH}NN")
    return str(folder.relative_to(run.path))


def _set_aside_outcome(run: RunDirectory, folder: str) -> None:
    """Sets the outcome of a search aside once one of its journals is, since it rests on all."""
    if folder.endswith(f"/{SEARCH}NN") and run.search.exists():
        set_aside(run, run.search)


def _set_aside_measurements(prepared: Prepared, run: RunDirectory) -> Iterator[str]:
    """Sets aside prompts, rates and journals of other identities, and yields lines about them.

    A journal is of another identity by its header, or by the environment of the run.
    """
    graph = prepared.graph
    for file, artifact in ((run.prompts, graph.prompts_file), (run.rates, graph.rates)):
        if state_of(file, artifact) not in ("done", "missing"):
            set_aside(run, file)
    now, earlier = _identities(graph), _identities(_graph_of_environment(prepared, run))
    counts: dict[str, int] = {}
    for file in [*journal_files(run.path / "load"), *journal_files(run.model)]:
        folder = _folder_of(run, file)
        identity = identity_in(file)
        # A journal without a header was cut off at once; measuring its block again replaces it.
        if identity is not None and {identity, earlier.get(folder)} != {now.get(folder)}:
            set_aside(run, file)
            _set_aside_outcome(run, folder)
            counts[folder] = counts.get(folder, 0) + 1
    for folder, count in counts.items():
        blocks = f"{count} block{'s' if count > 1 else ''}"
        fate = "to be measured again" if folder in now else "no longer asked for"
        yield f"{folder}: {blocks} {fate}; the old journals lie in set-aside/"
