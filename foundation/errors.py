"""The errors a person meets, and the exit code each one means."""

from __future__ import annotations

import errno
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of `dyno`."""

    DONE = 0
    DONT_SHIP = 1
    INCONCLUSIVE = 2
    BAD_INPUT = 3
    SYSTEM_FAILED = 4
    INTERRUPTED = 130


class DynoError(Exception):
    """An error whose message is one clear line for a person; the traceback shows only with `--debug`."""

    exit_code: Exit = Exit.BAD_INPUT


class BadInput(DynoError):
    """Configuration or data that can't be used. The message names file, line and field, and what to write instead."""

    exit_code = Exit.BAD_INPUT


class SystemFailed(DynoError):
    """The system under test (server, model, trainer) failed. The message gives the cause in plain words.

    `detail` holds the last lines of its log, printed below the message.
    """

    exit_code = Exit.SYSTEM_FAILED

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


_ROOM, _FILES = "make room on its disk", "allow more open files (ulimit -n)"
# What the system may refuse, and what to do about it: what is wrong from the start, and what breaks under a run.
_REFUSED = {
    errno.EACCES: "name a place that can be read and written",
    errno.EPERM: "name a place that can be read and written",
    errno.EROFS: "name a place that can be written",
    errno.ELOOP: "the symbolic link leads to itself",
    errno.ENAMETOOLONG: "name a shorter one",
    errno.ENOTDIR: "a part of its path is no folder",
    errno.EISDIR: "name a file",
}
_BROKEN = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "allow larger files (ulimit -f), or use another disk",
    errno.EIO: "its disk fails",
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOENT: "it was moved, removed or never there",
    errno.ESTALE: "it was moved, removed or never there",
}


def refused_by_system(error: OSError | RuntimeError) -> DynoError | None:
    """The clear line for what the system refused of a file; None where the error is about something else."""
    if isinstance(error, RuntimeError):  # pathlib's own, before Python 3.13
        said, _, path = str(error).partition(" from ")
        loop = path.strip("'")
        return (
            BadInput(f"{loop}: the symbolic link leads to itself")
            if said == "Symlink loop"
            else None
        )
    known = {**_REFUSED, **_BROKEN}
    if error.errno not in known:
        return None
    line = (
        f"{f'{error.filename}: ' if error.filename else ''}{error.strerror}; {known[error.errno]}"
    )
    return BadInput(line) if error.errno in _REFUSED else SystemFailed(line)
