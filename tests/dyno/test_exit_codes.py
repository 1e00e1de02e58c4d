"""1 and 2 are verdicts: no way that a command may end early has such an exit code."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest

from foundation.errors import BadInput, SystemFailed
from tests.dyno.stored_runs import dyno

GONE = BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/a/prompts.jsonl")


@pytest.mark.parametrize(
    ("ends_with", "code", "says"),
    [
        (BadInput("data.jsonl:3: empty line"), 3, "error: data.jsonl:3: empty line"),
        (SystemFailed("the server died"), 4, "error: the server died"),
        (FULL, 4, "error: runs/a/prompts.jsonl: No space left on device; make room on its disk"),
        (GONE, 4, "error: BrokenPipeError: [Errno 32] Broken pipe (this is a fault of dyno"),
        (
            ZeroDivisionError("by zero"),
            4,
            "error: ZeroDivisionError: by zero (this is a fault of dyno",
        ),
        (MemoryError(), 4, "error: MemoryError: "),
        (SystemExit(1), 4, "error: SystemExit: 1 (this is a fault of dyno"),
        (asyncio.CancelledError(), 4, "error: CancelledError: "),
        (ExceptionGroup("tasks", [SystemFailed("the server died")]), 4, "error: the server died"),
        (BaseExceptionGroup("tasks", [KeyboardInterrupt()]), 130, ""),
        (KeyboardInterrupt(), 130, ""),
        (SystemExit(0), 0, ""),
    ],
)
@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_no_early_end_is_a_verdict(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    ends_with: BaseException,
    code: int,
    says: str,
    debug: list[str],
) -> None:
    def ends() -> None:
        raise ends_with

    monkeypatch.setattr("dyno.commands.doctor.examine", ends)
    got, _, error = dyno(capsys, monkeypatch, "doctor", *debug)
    assert got == code
    assert error.startswith(says) and bool(error) == bool(says)
    assert error.count("\n") > 1 if debug and says else error.count("\n") <= 1  # the traceback
