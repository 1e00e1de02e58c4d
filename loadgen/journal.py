"""The journal on disk: JSON lines, flushed at least every second, whole after a kill but for the last second."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from results.records import JournalEnd, JournalHeader, RequestRecord

_FLUSH_NS = 500_000_000


class JournalWriter:
    """Writes the header at once, then records, then the end line. `tick` is to be called several times a second."""

    def __init__(self, path: Path, header: JournalHeader) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb", buffering=1 << 18)
        self._encoder = msgspec.json.Encoder()
        self._flushed_ns = time.monotonic_ns()
        self._line(header)
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def record(self, record: RequestRecord) -> None:
        self._line(record)

    def end(self, end: JournalEnd) -> None:
        self._line(end)
        self._file.flush()

    def tick(self) -> None:
        now_ns = time.monotonic_ns()
        if now_ns - self._flushed_ns >= _FLUSH_NS:
            self._file.flush()
            self._flushed_ns = now_ns

    def _line(self, row: msgspec.Struct) -> None:
        self._file.write(self._encoder.encode(row) + b"\n")
