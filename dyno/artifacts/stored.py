"""Artifacts on disk. One is done if it is there, whole, and has the identity of the graph.

A folder holds `identity.json`; a file has `NAME.identity.json` beside it. This mark is written
last. It holds the artifact's identity and facts, and the size and SHA-256 of each of its files.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

from dyno.artifacts.artifact import Artifact
from foundation.files.atomic_write import write_whole
from foundation.files.content_hash import IDENTITY, file_sha256
from foundation.run.layout import RunDirectory

State = Literal["done", "missing", "unmarked", "other", "damaged"]
"""`unmarked`: it has no mark. `other`: its mark has another identity."""
BEGUN = "begun.json"
"""In a folder that is being written: the identity of its artifact."""
_UNREADABLE = (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class StoredFile(msgspec.Struct, frozen=True):
    """The size and SHA-256 of a file of an artifact."""

    bytes: int
    sha256: str


class Mark(msgspec.Struct, kw_only=True):
    """What identifies an artifact on disk.

    `made_of`: the facts of the artifact and its inputs, by name. `files`: by path within the
    folder. `more`: further data of the code that made it.
    """

    schema_version: int = 1
    identity: str
    made_of: dict[str, Any]
    files: dict[str, StoredFile]
    more: dict[str, Any] = {}


def state_of(path: Path, artifact: Artifact) -> State:
    """The state of the folder or file of an artifact."""
    if not path.exists():
        return "missing"
    if (mark := read_mark(path)) is None:
        return "unmarked"
    if mark.identity != artifact.identity:
        return "other"
    return "done" if _is_whole(path, mark) else "damaged"


def is_done(path: Path, artifact: Artifact) -> bool:
    """Whether a folder or file is there, whole, and has the artifact's identity."""
    return state_of(path, artifact) == "done"


def read_mark(path: Path) -> Mark | None:
    """The mark of a folder or file; None if it has none, or an unreadable one."""
    try:
        return msgspec.json.decode(_mark_file(path).read_bytes(), type=Mark)
    except _UNREADABLE:
        return None


def mark(path: Path, artifact: Artifact, more: Mapping[str, Any] | None = None) -> None:
    """Marks a folder or file, which must be whole, as the artifact."""
    root = _root(path)
    files = [path]
    if path.is_dir():
        files = [f for f in path.rglob("*") if f.is_file() and f.name not in (IDENTITY, BEGUN)]
    contents = Mark(
        identity=artifact.identity,
        made_of={each.name: dict(each.facts) for each in artifact.with_inputs()},
        files={str(file.relative_to(root)): _stored_file(file) for file in sorted(files)},
        more=dict(more or {}),
    )
    text = msgspec.json.format(msgspec.json.encode(contents), indent=2)
    write_whole(_mark_file(path), text + b"\n")


@contextmanager
def making(
    run: RunDirectory, place: str, artifact: Artifact, *, go_on: bool = False
) -> Iterator[Path]:
    """A folder to write the artifact to, which moves to `place` in the run if no error is raised.

    With `go_on`, files that an earlier try left of the same artifact stay. A folder that is at
    `place` already is set aside.
    """
    folder = run.path / place
    partial = RunDirectory.partial(folder)
    begun = partial / BEGUN
    if not (go_on and _identity_in(begun) == artifact.identity):
        if go_on and partial.exists():
            set_aside(run, partial)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write_whole(begun, msgspec.json.encode({"identity": artifact.identity}))
    yield partial
    mark(partial, artifact)
    begun.unlink()
    if folder.exists():
        set_aside(run, folder)
    partial.rename(folder)


def finish_move(run: RunDirectory, place: str, artifact: Artifact) -> None:
    """Moves a finished folder to its place, if the process that wrote it was killed before."""
    folder = run.path / place
    partial = RunDirectory.partial(folder)
    if not folder.exists() and is_done(partial, artifact):
        (partial / BEGUN).unlink(missing_ok=True)
        partial.rename(folder)


def set_aside(run: RunDirectory, path: Path) -> Path:
    """Moves a file or folder to `set-aside/N/` in the run and returns its new path.

    So no result is deleted.
    """
    inside = path.relative_to(run.path)
    targets = (run.path / "set-aside" / str(number) / inside for number in itertools.count(1))
    target = next(target for target in targets if not target.exists())
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    return target


def _is_whole(path: Path, mark: Mark) -> bool:
    root = _root(path)
    try:
        # Sizes first, since hashes of large files take long.
        same_sizes = all((root / name).stat().st_size == f.bytes for name, f in mark.files.items())
        return same_sizes and all(
            file_sha256(root / name) == file.sha256 for name, file in mark.files.items()
        )
    except OSError:
        return False


def _stored_file(file: Path) -> StoredFile:
    return StoredFile(file.stat().st_size, file_sha256(file))


def _root(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _mark_file(path: Path) -> Path:
    return path / IDENTITY if path.is_dir() else path.with_suffix(f".{IDENTITY}")


def _identity_in(file: Path) -> object:
    try:
        stored = msgspec.json.decode(file.read_bytes())
    except _UNREADABLE:
        return None
    return stored.get("identity") if isinstance(stored, dict) else None
