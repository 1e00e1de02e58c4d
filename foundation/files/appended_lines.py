"""Appends lines to a file in a thread, so that a process that serves never waits for the disk."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

_PERIOD_S = 0.5
_PATIENCE_S = 1.0
"""How long the end of the process waits for a disk that hangs."""
_MOST_ROWS = 100_000
"""If so many rows wait, the disk hangs."""


class AppendedLines:
    """Rows as JSON lines at the end of a file, written twice a second until the process ends.

    If the file ends in half a line, that one is ended first and costs no further line.
    `failed` gets the error that ends the writing, once, in any thread. Later rows are dropped.
    Raises OSError where the file can't be opened.
    """

    def __init__(self, path: Path, failed: Callable[[Exception], None]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._failed = failed
        self._encoder = msgspec.json.Encoder()
        self._rows: deque[msgspec.Struct] = deque()
        self._pending, self._writing = threading.Event(), threading.Lock()
        self._is_open = True
        if not _ends_whole(path):
            self._file.write(b"\n")
        threading.Thread(target=self._run, name="appended lines", daemon=True).start()
        atexit.register(self.flush)

    def add(self, row: msgspec.Struct) -> None:
        """Take a row, to be written soon."""
        if not self._is_open:
            return
        self._rows.append(row)
        if not self._pending.is_set():
            self._pending.set()
        if len(self._rows) > _MOST_ROWS:
            self._give_up(OSError(f"{_MOST_ROWS} lines wait for the disk"))

    def flush(self) -> None:
        """Write what waits."""
        if not self._writing.acquire(timeout=_PATIENCE_S):
            return
        try:
            if self._is_open:
                self._write([self._rows.popleft() for _ in range(len(self._rows))])
        except (OSError, TypeError, ValueError) as error:
            self._give_up(error)
        finally:
            self._writing.release()

    def _write(self, rows: list[msgspec.Struct]) -> None:
        data = memoryview(self._encoder.encode_lines(rows))
        while data:
            # A disk that fills up takes a part, and refuses the rest.
            data = data[os.write(self._file.fileno(), data) :]

    def _run(self) -> None:
        while self._is_open:
            self._pending.wait()
            time.sleep(_PERIOD_S)
            self._pending.clear()
            self.flush()

    def _give_up(self, error: Exception) -> None:
        if self._is_open:
            self._is_open = False
            self._rows.clear()
            self._pending.set()
            self._failed(error)


def _ends_whole(path: Path) -> bool:
    """Whether the file is empty or its last line ends."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
