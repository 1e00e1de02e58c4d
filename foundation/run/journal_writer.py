"""Writes a journal: JSON lines, flushed at least every second.

After a kill the file is whole except for the last second.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from foundation.errors import DynoError, SystemFailed, refused_by_system
from foundation.run.records import JournalEnd, JournalHeader, RequestRecord

_FLUSH_NS = 500_000_000


class JournalWriter:
    """Writes the header at once, then records, then the end line. Call `tick` several times a
    second.

    Every method raises SystemFailed where the file can't be written any more, or was moved or
    removed.
    """

    def __init__(self, path: Path, header: JournalHeader) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("wb", buffering=1 << 18)
        except OSError as problem:
            raise self._lost(problem) from None
        self._encoder = msgspec.json.Encoder()
        self._flushed_ns = time.monotonic_ns()
        self._line(header)
        self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._file.close()
        except OSError as problem:
            if error is None:
                raise self._lost(problem) from None

    def record(self, record: RequestRecord) -> None:
        """Writes the line of one request."""
        self._line(record)

    def end(self, end: JournalEnd) -> None:
        """Writes the end line and flushes it to the operating system."""
        self._line(end)
        self._flush()

    def tick(self) -> None:
        """Flushes the file when it is due, and checks that it is still in its place."""
        now_ns = time.monotonic_ns()
        if now_ns - self._flushed_ns >= _FLUSH_NS:
            self._flush()
            self._check_place()
            self._flushed_ns = now_ns

    def _line(self, row: msgspec.Struct) -> None:
        try:
            self._file.write(self._encoder.encode(row) + b"\n")
        except OSError as problem:
            raise self._lost(problem) from None

    def _flush(self) -> None:
        try:
            self._file.flush()
        except OSError as problem:
            raise self._lost(problem) from None

    def _check_place(self) -> None:
        """A removed file still takes what is written, but nobody will ever read it."""
        try:
            is_there = os.path.samestat(self._path.stat(), os.fstat(self._file.fileno()))
        except OSError:
            is_there = False
        if not is_there:
            raise SystemFailed(f"{self._path}: was moved or removed while the load went on")

    def _lost(self, problem: OSError) -> DynoError:
        problem.filename = str(self._path)
        return refused_by_system(problem) or SystemFailed(
            f"{self._path}: can't be written ({problem})"
        )
