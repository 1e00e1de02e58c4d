"""Runs the emulator in a process of its own for as long as a `with` block lasts."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from foundation.http.endpoint import Endpoint
from foundation.processes.end_with_parent import end_with
from foundation.processes.python_child import run_module


@contextmanager
def emulator(*arguments: str, truth: Path, core: int | None = None) -> Iterator[Endpoint]:
    """Starts an emulator that logs to `truth`, on a core of its own where the OS allows it.

    The log is complete after the block.
    """
    command = run_module("loadgen.emulator", "--truth", str(truth.absolute()), *arguments)
    ends = partial(end_with, os.getpid())
    process = subprocess.Popen(
        command, cwd=truth.parent, stdout=subprocess.PIPE, encoding="utf-8", preexec_fn=ends
    )
    try:
        if core is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, {core})
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        yield Endpoint("emulator", f"http://127.0.0.1:{port}/v1", "emulated")
    finally:
        process.terminate()
        process.wait()


def read_truth(truth: Path) -> list[dict[str, Any]]:
    """The rows of a truth log, one a request."""
    return [json.loads(line) for line in truth.read_text(encoding="utf-8").splitlines()]
