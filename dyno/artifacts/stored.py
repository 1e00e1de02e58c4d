"""Artifacts on disk. One is done when it is there, whole, and bears the identity that is asked for.

A folder holds `identity.json`; a file has `NAME.identity.json` beside it. Either is written last: it
says what the artifact is made of, and the size and SHA-256 of every file that belongs to it.
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
"""`unmarked`: it doesn't say what it is. `other`: it was made of something else than what is asked for."""
BEGUN = "begun.json"
"""In a folder that is being written: of which artifact."""
_UNREADABLE = (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class KeptFile(msgspec.Struct, frozen=True):
    bytes: int
    sha256: str


class Mark(msgspec.Struct, kw_only=True):
    """`made_of`: the facts of the artifact and of everything it depends on, by name. `more`: what its maker keeps with it."""

    schema_version: int = 1
    identity: str
    made_of: dict[str, Any]
    files: dict[str, KeptFile]
    more: dict[str, Any] = {}


def state_of(path: Path, artifact: Artifact) -> State:
    """Whether a folder or file is the artifact."""
    if not path.exists():
        return "missing"
    if (mark := read_mark(path)) is None:
        return "unmarked"
    if mark.identity != artifact.identity:
        return "other"
    return "done" if _is_whole(path, mark) else "damaged"


def is_done(path: Path, artifact: Artifact) -> bool:
    """Whether it is there, whole, with the artifact's identity."""
    return state_of(path, artifact) == "done"


def read_mark(path: Path) -> Mark | None:
    """What a folder or file says it is; None where it doesn't say."""
    try:
        return msgspec.json.decode(_mark_file(path).read_bytes(), type=Mark)
    except _UNREADABLE:
        return None


def mark(path: Path, artifact: Artifact, more: Mapping[str, Any] | None = None) -> None:
    """Write down that a folder or file is the artifact, now that it is whole."""
    root = _root(path)
    files = (
        [path]
        if path.is_file()
        else [f for f in path.rglob("*") if f.is_file() and f.name not in (IDENTITY, BEGUN)]
    )
    write_whole(
        _mark_file(path),
        msgspec.json.format(
            msgspec.json.encode(
                Mark(
                    identity=artifact.identity,
                    made_of={each.name: dict(each.facts) for each in artifact.with_inputs()},
                    files={str(file.relative_to(root)): _kept(file) for file in sorted(files)},
                    more=dict(more or {}),
                )
            ),
            indent=2,
        )
        + b"\n",
    )


@contextmanager
def making(
    run: RunDirectory, place: str, artifact: Artifact, *, go_on: bool = False
) -> Iterator[Path]:
    """A folder to write the artifact into. It takes its place in the run when the block ends without an error.

    With `go_on`, what an earlier try left of the same artifact is kept. What stands in its place is set aside.
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


def take_its_place(run: RunDirectory, place: str, artifact: Artifact) -> None:
    """Rename a folder that was finished by a process that was killed before it could."""
    folder = run.path / place
    partial = RunDirectory.partial(folder)
    if not folder.exists() and is_done(partial, artifact):
        (partial / BEGUN).unlink(missing_ok=True)
        partial.rename(folder)


def set_aside(run: RunDirectory, path: Path) -> Path:
    """Move a file or folder out of sight, to `set-aside/N/` in the run; nothing that was made or measured is deleted."""
    inside = path.relative_to(run.path)
    targets = (run.path / "set-aside" / str(number) / inside for number in itertools.count(1))
    target = next(target for target in targets if not target.exists())
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    return target


def _is_whole(path: Path, mark: Mark) -> bool:
    root = _root(path)
    try:
        sizes = all((root / name).stat().st_size == kept.bytes for name, kept in mark.files.items())
        return sizes and all(
            file_sha256(root / name) == kept.sha256 for name, kept in mark.files.items()
        )
    except OSError:
        return False


def _kept(file: Path) -> KeptFile:
    return KeptFile(file.stat().st_size, file_sha256(file))


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
