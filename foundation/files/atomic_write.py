"""Writes files atomically: a reader sees the old file or the new one, never a part of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_UNFINISHED = ".unfinished"


def write_whole(file: Path, content: str | bytes) -> None:
    """Write a file atomically and durably; text as UTF-8. Raises OSError that names the file."""
    data = content if isinstance(content, bytes) else content.encode("utf-8", "replace")
    with whole_file(file) as place:
        place.write_bytes(data)


@contextmanager
def whole_file(file: Path, *, durable: bool = True) -> Iterator[Path]:
    """A path to write to; its file is renamed to `file` if the block ends without an error.

    `durable`: the content is on the disk before the rename, so even a power failure leaves no part.
    A symbolic link stays one. Anything but a regular file (a pipe, a device, /dev/stdout) is
    written to directly. Raises OSError that names the file.
    """
    try:
        if _is_stream(file):
            yield file
            return
        place = Path(os.path.realpath(file))
        unfinished = place.with_name(f".{place.name}.{os.getpid()}{_UNFINISHED}")
        try:
            yield unfinished
            if durable:
                _sync(unfinished)
            unfinished.replace(place)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        if error.filename is None or str(error.filename).endswith(_UNFINISHED):
            error.filename = str(file)
        raise


def sweep(folder: Path) -> None:
    """Remove what killed writers left below a folder, where no other process may be writing."""
    for left in folder.rglob(f".*{_UNFINISHED}"):
        left.unlink(missing_ok=True)


def _is_stream(file: Path) -> bool:
    """Whether a rename can't replace it: /dev/stdout leads to any file that the shell opened."""
    leads_to = str(file.readlink()) if file.is_symlink() else os.path.realpath(file.parent)
    return leads_to.startswith("/proc/") or (file.exists() and not file.is_file())


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
