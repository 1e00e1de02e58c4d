"""The errors a person meets, and the exit code each one means."""

from __future__ import annotations

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
