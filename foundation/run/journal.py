"""Reads journals and prompts of a run.

A line that can't be read is left out and named (`Damage`). The other lines still count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np

from foundation.errors import BadInput
from foundation.run.layout import PROMPTS
from foundation.run.parsing import Batch, Failed, parse
from foundation.run.plausibility import corrected, impossible_requests
from foundation.run.records import SCHEMA_VERSION, JournalEnd, JournalHeader, Prompt
from foundation.run.requests import Requests, columns_of, joined, requests_of

_header = msgspec.json.Decoder(JournalHeader)
_end = msgspec.json.Decoder(JournalEnd)
_prompt = msgspec.json.Decoder(Prompt)
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_BATCH = 1 << 23  # bytes of a journal that are parsed at a time


@dataclass(frozen=True)
class Damage:
    """A line that was left out, and why. Line 0 stands for the whole file."""

    file: Path
    line: int
    why: str

    def __str__(self) -> str:
        place = f":{self.line}" if self.line else ""
        return f"{'/'.join(self.file.parts[-3:])}{place}: {self.why}"


@dataclass(frozen=True)
class Journal:
    """One block. `end` is None where the journal was cut off.

    `damage`: the lines that are missing from `requests`.
    """

    header: JournalHeader
    requests: Requests
    end: JournalEnd | None
    damage: Sequence[Damage] = ()


class _Version(msgspec.Struct):
    schema_version: int = 0


_version = msgspec.json.Decoder(_Version)
OnBatch = Callable[[JournalHeader, Batch], None]
"""Called with each batch of records as it is read."""


def read_journal(file: Path, on_batch: OnBatch | None = None) -> Journal | Damage:
    """Reads the journal of one block; returns a Damage where it has no whole header line.

    The first end line ends a journal; a kill can cut it off. Raises BadInput for a journal of a
    newer tunedyno.
    """
    try:
        stream = file.open("rb")
    except OSError as error:
        return Damage(
            file, 0, f"can't be opened ({error.strerror}), so the whole block is left out"
        )
    with stream:
        header = _read_header(file, stream.readline())
        if isinstance(header, Damage):
            return header
        body = _JournalBody(file)
        for lines in _batches(stream):
            batch = body.take(lines)
            if on_batch is not None:
                on_batch(header, batch)
    return Journal(header, body.requests(), body.end, body.damage)


def read_journals(
    directory: Path, on_batch: OnBatch | None = None
) -> tuple[list[Journal], list[Damage]]:
    """Reads the journals below a directory, in the order of their names.

    Also returns the damage: lines that were left out, and whole files.
    """
    results = [read_journal(file, on_batch) for file in journal_files(directory)]
    damage = [
        part for one in results for part in (one.damage if isinstance(one, Journal) else [one])
    ]
    return [one for one in results if isinstance(one, Journal)], damage


def _read_header(file: Path, line: bytes) -> JournalHeader | Damage:
    if not line.endswith(b"\n"):
        return Damage(
            file, 1, "the block was cut off before it began" if line else "the file is empty"
        )
    try:
        version = _version.decode(line).schema_version
        if version > SCHEMA_VERSION:
            raise BadInput(
                f"{file}:1: schema_version {version}, this tunedyno reads up to {SCHEMA_VERSION}; "
                "use the newer one"
            )
        return _header.decode(line)
    except UNREADABLE as error:
        return Damage(
            file, 1, f"not the first line of a journal, so the whole block is left out ({error})"
        )


class _JournalBody:
    """Reads the lines of a journal after its header."""

    def __init__(self, file: Path) -> None:
        self.end: JournalEnd | None = None
        self.damage: list[Damage] = []
        self._file = file
        self._parts = [requests_of([])]
        self._lines = [np.empty(0, np.int64)]

    def take(self, lines: Sequence[tuple[int, bytes]]) -> Batch:
        """Parses some more lines and returns the records among them."""
        before, after = (lines, lines[:0]) if self.end is None else (lines[:0], lines)
        batch, failed = parse(before)
        if (place := self._find_end(before, failed)) is not None:
            before, after = before[:place], before[place + 1 :]
            batch, failed = parse(before)
        self._leave_out(failed)
        self._leave_out([(number, "it stands after the end of the journal") for number, _ in after])
        self._parts.append(columns_of(batch))
        self._lines.append(batch.lines)
        return batch

    def requests(self) -> Requests:
        """All requests that can be true, in the order of their ids.

        Of two records with one id the first counts.
        """
        requests, lines = joined(self._parts), np.concatenate(self._lines)
        order = np.argsort(requests.id, kind="stable")
        is_repeated = np.zeros(len(order), np.bool_)
        is_repeated[1:] = np.diff(requests.id[order]) == 0
        self._leave_out(
            [
                (int(lines[i]), f"there is a request {requests.id[i]} before it")
                for i in order[is_repeated]
            ]
        )
        if is_repeated.any() or (np.diff(order) < 0).any():
            requests, lines = requests.take(order[~is_repeated]), lines[order[~is_repeated]]
        problems = impossible_requests(requests, 0 if self.end is None else self.end.ended_ns)
        self._leave_out([(int(lines[place]), why) for place, why in problems])
        keep = np.ones(len(requests), np.bool_)
        keep[np.array([place for place, _ in problems], dtype=np.int64)] = False
        return corrected(requests.where(keep))

    def _find_end(self, lines: Sequence[tuple[int, bytes]], failed: Sequence[Failed]) -> int | None:
        """The place of the first end line in `lines`, found among those that failed as records."""
        suspects = {number for number, _ in failed}
        for place, (number, line) in enumerate(lines):
            if number in suspects:
                try:
                    self.end = _end.decode(line)
                except UNREADABLE:
                    continue
                return place
        return None

    def _leave_out(self, lines: Sequence[Failed]) -> None:
        self.damage += [Damage(self._file, number, why) for number, why in lines]


def _batches(stream: BinaryIO) -> Iterator[list[tuple[int, bytes]]]:
    """The numbered lines of a journal after its first, some megabytes at a time, without empty
    lines.
    """
    number = 2
    while lines := stream.readlines(_BATCH):
        yield [(at, line.rstrip()) for at, line in enumerate(lines, start=number) if line.strip()]
        number += len(lines)


def is_whole(file: Path, identity: str | None = None) -> bool:
    """Whether the block was measured to its end, so that no request need be sent again.

    `identity`: the identity that the journal must have, None for any.
    """
    if (recorded := identity_in(file)) is None or identity not in (None, recorded):
        return False
    journal = read_journal(file)
    return (
        isinstance(journal, Journal) and journal.end is not None and journal.end.end == "complete"
    )


def header_in(file: Path) -> JournalHeader | None:
    """The header of a journal; None without a journal that has one."""
    try:
        with file.open("rb") as stream:
            header = _read_header(file, stream.readline())
    except OSError:
        return None
    return header if isinstance(header, JournalHeader) else None


def identity_in(file: Path) -> str | None:
    """The identity in a journal's header; None without a journal that has a header."""
    header = header_in(file)
    return None if header is None else header.identity


class Prompts(dict[str, Prompt]):
    """The prompts of a run by id. `damage`: the lines of the file that hold no prompt."""

    damage: Sequence[Damage] = ()


def read_prompts(run: Path) -> Prompts:
    """Reads the prompts of a run; there are none where it has no `prompts.jsonl`."""
    prompts, damage = Prompts(), []
    try:
        lines = (run / PROMPTS).read_bytes().split(b"\n")
    except FileNotFoundError:
        lines = []
    except OSError as error:
        why = f"can't be read ({error.strerror}), so no answer can be scored"
        lines, damage = [], [Damage(Path(PROMPTS), 0, why)]
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                prompt = _prompt.decode(line)
            except UNREADABLE as error:
                why = f"not a prompt ({error}), so its answers can't be scored"
                damage.append(Damage(Path(PROMPTS), number, why))
            else:
                prompts.setdefault(prompt.id, prompt)
    prompts.damage = damage
    return prompts


def journal_files(directory: Path) -> list[Path]:
    """The journals below a directory, in the order of their names."""
    return sorted(directory.rglob("block-*.jsonl"))


def damage_in_words(damage: Sequence[Damage], most: int = 3) -> str:
    """The first `most` damages in words, and how many more there are."""
    words = "; ".join(map(str, damage[:most]))
    return f"{words}; and {len(damage) - most} more" if len(damage) > most else words
