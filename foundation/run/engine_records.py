"""Reads the engine records of a run, and finds the times of a journal's requests in them.

A line that can't be read is left out and named. Of two records of one request the first counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from foundation.arrays import Ints
from foundation.errors import BadInput
from foundation.run.engine_record import (
    ENGINE_SCHEMA_VERSION,
    EngineLine,
    EngineRequest,
    EngineStart,
    key_parts,
)
from foundation.run.engine_times import ENGINE_RECORD, TRACES, EngineTimes
from foundation.run.journal import UNREADABLE, Damage, Journal, damage_in_words
from foundation.run.plausibility import possible_times
from foundation.run.requests import Requests

_line = msgspec.json.Decoder(EngineLine)
_BATCH = 1 << 16  # records that are held as objects at a time
_NAMED = 20
UNKNOWN = -1
"""In the place of a number that a record does not have."""
_NO_START = "no line before it says which server wrote it"
_AGAIN = "there is a record of this request before it"


class _Version(msgspec.Struct):
    kind: str
    schema_version: int = 0


_version = msgspec.json.Decoder(_Version)


@dataclass
class LeftOut:
    """The lines of engine records that are left out: how many, and the first of them."""

    lines: int = 0
    first: list[Damage] = field(default_factory=list)

    def add(self, file: Path, line: int, why: str) -> None:
        """Counts a line, and keeps it if it is one of the first."""
        self.lines += 1
        if len(self.first) < _NAMED:
            self.first.append(Damage(file, line, why))

    def note(self) -> str | None:
        """What is left out, in words; None without any."""
        if not self.lines:
            return None
        lines = "a line" if self.lines == 1 else f"{self.lines:,} lines"
        return f"{lines} of the engine record left out: {damage_in_words(self.first)}"


@dataclass(frozen=True)
class EngineRecords:
    """n finished requests, in the order of their origin and number (`request_key`).

    `durations` (n, 3): queued, prefill and decode, ns. `finished` (n,): CLOCK_MONOTONIC ns.
    `in_server` (n,): ns. Both are `UNKNOWN` where nobody said. `source` (n,): who timed them.
    """

    origin: Ints
    number: Ints
    durations: Ints
    finished: Ints
    in_server: Ints
    source: NDArray[np.int8]
    left_out: LeftOut = field(default_factory=LeftOut)

    def __len__(self) -> int:
        return len(self.origin)

    def timed(self, journal: Journal) -> Journal:
        """The journal with the times that its requests have in the records."""
        engine = self.times_of(journal.requests, journal.header.origin_monotonic_ns)
        return replace(journal, requests=replace(journal.requests, engine=engine))

    def times_of(self, requests: Requests, origin_ns: int) -> EngineTimes:
        """The times of the requests of the journal with this origin.

        A request without a record keeps the times that its answer brought.
        """
        begin, end = np.searchsorted(self.origin, [origin_ns, origin_ns + 1])
        if begin == end:
            return requests.engine
        numbers = self.number[begin:end]
        rows = np.minimum(np.searchsorted(numbers, requests.id), len(numbers) - 1)
        has_record = numbers[rows] == requests.id
        rows = rows[has_record] + begin
        own = requests.engine
        queued, prefill, decode = self.durations[rows].T.astype(np.float64)
        moment, in_server = self.finished[rows], self.in_server[rows]
        finished = np.where(moment == UNKNOWN, np.nan, moment - origin_ns)
        sent, done = requests.sent_ns[has_record], requests.done_ns[has_record]
        recorded = possible_times(
            EngineTimes(queued, prefill, decode, finished, self.source[rows]),
            np.fmin(np.where(in_server == UNKNOWN, np.nan, in_server), done - sent),
            sent,
            done,
        )
        everything = EngineTimes.joined([own, recorded])
        places = np.arange(len(requests))
        places[has_record] = len(requests) + np.arange(len(rows))
        return everything.take(places)


def read_engine_records(folder: Path) -> EngineRecords:
    """Reads every `*.jsonl` of a run's folder of engine records; none where it has no such folder.

    Raises BadInput for a record of a newer tunedyno.
    """
    left_out = LeftOut()
    files = sorted(folder.glob("*.jsonl"))
    parts = [part for i, file in enumerate(files) for part in _read(file, i, left_out)]
    return _in_order(files, [_columns([], [], 0), *parts], left_out)


_Part = tuple[Ints, Ints, NDArray[np.int8]]
"""Keys (n, 2), numbers (n, 7) (durations, finished, in server, file, line) and sources (n,)."""


def _read(file: Path, place: int, left_out: LeftOut) -> Iterator[_Part]:
    """The requests in one file, many at a time. `place`: the file's among the files."""
    source = ENGINE_RECORD
    rows: list[tuple[int, EngineRequest]] = []
    sources: list[int] = []
    for number, line in engine_lines(file, left_out):
        if isinstance(line, EngineRequest):
            if key_parts(line.key) is not None:
                rows.append((number, line))
                sources.append(source)
        elif isinstance(line, EngineStart):
            source = TRACES if line.source.startswith("OTLP") else ENGINE_RECORD
        if len(rows) == _BATCH:
            yield _columns(rows, sources, place)
            rows, sources = [], []
    yield _columns(rows, sources, place)


def engine_lines(file: Path, left_out: LeftOut) -> Iterator[tuple[int, EngineLine]]:
    """The lines of an engine record with their numbers, from the first start of a server on.

    Raises BadInput for a record of a newer tunedyno.
    """
    is_started = False
    try:
        stream = file.open("rb")
    except OSError as error:
        left_out.add(file, 0, f"can't be opened ({error.strerror})")
        return
    with stream:
        for number, text in enumerate(stream, start=1):
            try:
                line = _line.decode(text)
            except UNREADABLE as error:
                _refuse_newer(file, number, text)
                if text.strip():
                    left_out.add(file, number, str(error))
                continue
            if isinstance(line, EngineStart):
                _refuse_newer(file, number, text)
                is_started = True
            if is_started:
                yield number, line
            elif isinstance(line, EngineRequest):
                left_out.add(file, number, _NO_START)


def _refuse_newer(file: Path, number: int, text: bytes) -> None:
    """Raises BadInput for the first line of a server whose record is a newer tunedyno's."""
    try:
        start = _version.decode(text)
    except UNREADABLE:
        return
    if start.kind == "start" and start.schema_version > ENGINE_SCHEMA_VERSION:
        raise BadInput(
            f"{file}:{number}: schema_version {start.schema_version}, this tunedyno reads engine "
            f"records up to {ENGINE_SCHEMA_VERSION}; use the newer one"
        )


def _columns(
    rows: Sequence[tuple[int, EngineRequest]], sources: Sequence[int], place: int
) -> _Part:
    digits = bytes.fromhex("".join(row.key for _, row in rows))
    keys = np.frombuffer(digits, ">u8").reshape(-1, 2).astype(np.int64)
    numbers = np.array(
        [
            (
                row.queued_ns,
                row.prefill_ns,
                row.decode_ns,
                UNKNOWN if row.finished_ns is None else row.finished_ns,
                UNKNOWN if row.in_server_ns is None else row.in_server_ns,
                place,
                number,
            )
            for number, row in rows
        ],
        dtype=np.int64,
    ).reshape(-1, 7)
    return keys, numbers, np.array(sources, dtype=np.int8)


def _in_order(files: Sequence[Path], parts: Sequence[_Part], left_out: LeftOut) -> EngineRecords:
    """The records sorted by key, the first of each key."""
    keys, numbers, sources = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    keys = keys[order]
    again = np.zeros(len(order), np.bool_)
    again[1:] = (np.diff(keys, axis=0) == 0).all(axis=1)
    for file, line in sorted(numbers[order[again], 5:].tolist()):
        left_out.add(files[file], line, _AGAIN)
    order, keys = order[~again], keys[~again]
    numbers = numbers[order]
    return EngineRecords(
        origin=keys[:, 0].copy(),
        number=keys[:, 1].copy(),
        durations=numbers[:, :3].copy(),
        finished=numbers[:, 3].copy(),
        in_server=numbers[:, 4].copy(),
        source=sources[order],
        left_out=left_out,
    )
