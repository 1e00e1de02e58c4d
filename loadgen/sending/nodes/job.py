"""A worker process on a node, with what it says and the journal it writes."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO

from foundation.files.scratch import scratch
from foundation.processes.python_child import run_module
from loadgen.sending.nodes.node import SILENCE_S, START_S
from loadgen.sending.worker_task import PART

PIECE = 1 << 22
ALONE_S = START_S + SILENCE_S
# Messages are gathered for so long, so that few calls disturb the load.
_GATHER_S = 0.2
_LOOK_S = 1.0
_LONGEST_COMPLAINT = 10_000


class NodeJob:
    """One `python -m loadgen.sending.worker` in a folder of its own.

    When nobody asks for its messages for `ALONE_S`, its input is closed, and it sends no more:
    nobody would know what it does.
    """

    def __init__(self, work: bytes) -> None:
        self._closing = ExitStack()
        self._folder = self._closing.enter_context(scratch())
        _allow_open_files()
        self._process = subprocess.Popen(
            run_module("loadgen.sending.worker"),
            cwd=self._folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._lines: deque[bytes] = deque()
        self._complaints = b""
        self._spoke, self._over = threading.Event(), threading.Event()
        self._called_s = time.monotonic()
        self._writing = threading.Lock()
        self._complaining = threading.Thread(target=self._keep_complaints, daemon=True)
        self._complaining.start()
        for action in (self._listen, self._watch):
            threading.Thread(target=action, daemon=True).start()
        self._write(len(work).to_bytes(8, "big") + work)

    def first_line(self) -> bytes:
        """Waits for the worker's first line; empty where it ended without one, or is too slow."""
        self._spoke.wait(START_S)
        return self._lines.popleft() if self._lines else b""

    def order(self, line: str) -> None:
        """Writes a line of orders to it; nothing where it has ended."""
        self._write(line.encode() + b"\n")

    def messages(self) -> tuple[list[bytes], int | None, str]:
        """Its lines since the last call; its exit code and complaints once it has ended."""
        self._called_s = time.monotonic()
        over = self._over.wait(_GATHER_S)  # before the lines are taken: then none comes later
        lines = list(self._taken())
        if not over:
            return lines, None, ""
        return lines, self._process.wait(), self._complaints.decode("utf-8", "replace")

    def piece(self, offset: int) -> bytes:
        """Some bytes of its journal; none at the end, or where it wrote none."""
        try:
            with (self._folder / PART).open("rb") as file:
                file.seek(offset)
                return file.read(PIECE)
        except FileNotFoundError:
            return b""

    def end(self) -> None:
        """Kills the worker and what it started, and removes the folder."""
        self._process.kill()
        self._process.wait()
        self._closing.close()

    def _taken(self) -> Iterator[bytes]:
        while self._lines:
            yield self._lines.popleft()

    def _write(self, content: bytes) -> None:
        with self._writing, contextlib.suppress(OSError, ValueError):  # it has ended
            _pipe(self._process.stdin).write(content)
            _pipe(self._process.stdin).flush()

    def _listen(self) -> None:
        for line in _pipe(self._process.stdout):
            self._lines.append(line)
            self._spoke.set()
        self._process.wait()
        self._complaining.join(_LOOK_S)
        self._over.set()
        self._spoke.set()

    def _keep_complaints(self) -> None:
        for line in _pipe(self._process.stderr):
            self._complaints = (self._complaints + line)[-_LONGEST_COMPLAINT:]

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_S):
            if time.monotonic() - self._called_s > ALONE_S:
                with self._writing, contextlib.suppress(OSError):
                    _pipe(self._process.stdin).close()
                return


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _allow_open_files() -> None:
    """Raises the limit of open files as far as the system allows: the worker inherits it."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
