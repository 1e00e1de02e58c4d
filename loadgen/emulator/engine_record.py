"""Writes the emulator's own engine record: what it did, in the schema of a server's record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO

import msgspec

from foundation.run.engine_record import (
    ENGINE_SCHEMA_VERSION,
    EngineLimits,
    EngineLine,
    EngineRequest,
    EngineStart,
)
from loadgen.emulator.batch_limits import BatchLimits
from loadgen.emulator.truth import Truth


class EngineRecordFile:
    """A file of `EngineLine`, to which each start of the emulator appends."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def start(self, limits: BatchLimits | None, monotonic_ns: int, unix_ns: int) -> None:
        """Writes the line of a start. `limits`: of the scheduler, None for an engine without."""
        start = EngineStart(
            schema_version=ENGINE_SCHEMA_VERSION,
            source="emulator",
            monotonic_ns=monotonic_ns,
            unix_ns=unix_ns,
            limits=None if limits is None else EngineLimits(**asdict(limits)),
        )
        self.write([start])

    def write(self, lines: Sequence[EngineLine]) -> None:
        """Writes lines as they are."""
        self._file.write(msgspec.json.Encoder().encode_lines(lines))

    def request(self, truth: Truth, input_tokens: int) -> None:
        """Writes the line of a request, if it came to its last token."""
        phases = truth.phases_ns
        if phases is None or truth.finished_ns is None:
            return
        queued_ns, prefill_ns, decode_ns = phases
        line = EngineRequest(
            key=truth.key or str(truth.request),
            finished_ns=truth.finished_ns,
            in_server_ns=truth.finished_ns - truth.arrived_ns,
            queued_ns=queued_ns,
            prefill_ns=prefill_ns,
            decode_ns=decode_ns,
            input_tokens=input_tokens,
            output_tokens=sum(truth.event_tokens),
            cached_tokens=truth.cached_tokens,
            preemptions=truth.preemptions,
        )
        self.write([line])


@contextmanager
def engine_record(path: Path) -> Iterator[EngineRecordFile]:
    """The record in `path`."""
    with path.open("ab", buffering=0) as file:
        yield EngineRecordFile(file)
