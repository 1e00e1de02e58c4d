"""The errors that a user sees, and their exit codes."""

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
    """An error whose message is one clear line; only `--debug` shows the traceback."""

    exit_code: Exit = Exit.BAD_INPUT


class BadInput(DynoError):
    """Configuration or data that can't be used.

    The message names file, line and field, and what to write instead.
    """

    exit_code = Exit.BAD_INPUT


class SystemFailed(DynoError):
    """The system under test (server, model, trainer) failed. The message names the cause.

    `detail`: the last lines of its log, printed below the message.
    """

    exit_code = Exit.SYSTEM_FAILED

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


_ROOM, _FILES = "make room on its disk", "allow more open files (ulimit -n)"
# Remedies for errors of the system: those that are wrong from the start, and those of a run.
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
    """The clear line for a system's error about a file; None for any other error."""
    if isinstance(error, RuntimeError):  # pathlib's own, before Python 3.13
        message, _, path = str(error).partition(" from ")
        if message != "Symlink loop":
            return None
        loop = path.strip("'")
        return BadInput(f"{loop}: {_REFUSED[errno.ELOOP]}")
    known = {**_REFUSED, **_BROKEN}
    if error.errno not in known:
        return None
    file = f"{error.filename}: " if error.filename else ""
    line = f"{file}{error.strerror}; {known[error.errno]}"
    return BadInput(line) if error.errno in _REFUSED else SystemFailed(line)
