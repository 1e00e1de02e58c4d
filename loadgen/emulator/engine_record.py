"""Writes the emulator's own engine record: what it did, in the schema of a server's record."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from foundation.run.engine_record import (
    ENGINE_SCHEMA_VERSION,
    EngineLine,
    EngineRequest,
    EngineStart,
    EngineStep,
)
from loadgen.emulator.truth import Truth


class EngineRecordFile:
    """A file of `EngineLine`, to which each start of the emulator appends."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._write(
            EngineStart(
                schema_version=ENGINE_SCHEMA_VERSION,
                source="emulator",
                monotonic_ns=time.monotonic_ns(),
                unix_ns=time.time_ns(),
            )
        )

    def step(self, step: EngineStep) -> None:
        """Writes the line of a lockstep step."""
        self._write(step)

    def request(self, truth: Truth, input_tokens: int) -> None:
        """Writes the line of a request, if it came to its last token."""
        phases = truth.phases_ns
        if phases is None or truth.finished_ns is None:
            return
        queued_ns, prefill_ns, decode_ns = phases
        self._write(
            EngineRequest(
                key=truth.key or str(truth.request),
                finished_ns=truth.finished_ns,
                in_server_ns=truth.finished_ns - truth.arrived_ns,
                queued_ns=queued_ns,
                prefill_ns=prefill_ns,
                decode_ns=decode_ns,
                input_tokens=input_tokens,
                output_tokens=sum(truth.event_tokens),
            )
        )

    def _write(self, line: EngineLine) -> None:
        self._file.write(msgspec.json.encode(line) + b"\n")


@contextmanager
def engine_record(path: Path | None) -> Iterator[EngineRecordFile | None]:
    """The record in `path`, or None without one."""
    if path is None:
        yield None
        return
    with path.open("ab", buffering=0) as file:
        yield EngineRecordFile(file)
