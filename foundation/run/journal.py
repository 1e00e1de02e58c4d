"""Journals and prompts read back from a run directory, and journals written on as Parquet.

A line that can't be read never costs the others: it is left out and named (`Damage`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np

from foundation.errors import BadInput
from foundation.run.parsing import Batch, Failed, parse
from foundation.run.possible import believed, impossible
from foundation.run.records import SCHEMA_VERSION, JournalEnd, JournalHeader, Prompt
from foundation.run.requests import Requests, columns_of, joined, requests_of

_header = msgspec.json.Decoder(JournalHeader)
_end = msgspec.json.Decoder(JournalEnd)
_prompt = msgspec.json.Decoder(Prompt)
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_BATCH = 1 << 23  # bytes of a journal that are parsed at a time


@dataclass(frozen=True)
class Damage:
    """A line that was left out, and why; line 0 is a whole file."""

    file: Path
    line: int
    why: str

    def __str__(self) -> str:
        place = f":{self.line}" if self.line else ""
        return f"{'/'.join(self.file.parts[-3:])}{place}: {self.why}"


@dataclass(frozen=True)
class Journal:
    """One block. `end` is None where it was cut off. `damage`: the lines that are not among its
    requests.
    """

    header: JournalHeader
    requests: Requests
    end: JournalEnd | None
    damage: Sequence[Damage] = ()


class _Version(msgspec.Struct):
    schema_version: int = 0


_version = msgspec.json.Decoder(_Version)
Each = Callable[[JournalHeader, Batch], None]


def read_journal(file: Path, each: Each | None = None) -> Journal | Damage:
    """A journal of one block, or the damage that leaves nothing of it: no whole header line.

    `each` is shown its records as they are read. The first end line ends a journal; a kill can cut
    it off. Raises BadInput for a journal of a newer tunedyno.
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
        body = _Body(file)
        for lines in _batches(stream):
            batch = body.take(lines)
            if each is not None:
                each(header, batch)
    return Journal(header, body.requests(), body.end, body.damage)


def read_journals(directory: Path, each: Each | None = None) -> tuple[list[Journal], list[Damage]]:
    """The journals below a directory in the order of their names, and what could not be read of
    them, whole files included.
    """
    found = [read_journal(file, each) for file in journal_files(directory)]
    damage = [part for one in found for part in (one.damage if isinstance(one, Journal) else [one])]
    return [one for one in found if isinstance(one, Journal)], damage


def _read_header(file: Path, line: bytes) -> JournalHeader | Damage:
    if not line.endswith(b"\n"):
        return Damage(
            file, 1, "the block was cut off before it began" if line else "the file is empty"
        )
    try:
        version = _version.decode(line).schema_version
        if version > SCHEMA_VERSION:
            raise BadInput(
                f"{file}:1: schema_version {version}, this tunedyno reads up to {SCHEMA_VERSION}; use the newer one"
            )
        return _header.decode(line)
    except UNREADABLE as error:
        return Damage(
            file, 1, f"not the first line of a journal, so the whole block is left out ({error})"
        )


class _Body:
    """What has been read of a journal after its header."""

    def __init__(self, file: Path) -> None:
        self.end: JournalEnd | None = None
        self.damage: list[Damage] = []
        self._file = file
        self._parts = [requests_of([])]
        self._lines = [np.empty(0, np.int64)]

    def take(self, lines: Sequence[tuple[int, bytes]]) -> Batch:
        """Reads some more lines and returns the records among them."""
        before, after = (lines, lines[:0]) if self.end is None else (lines[:0], lines)
        batch, failed = parse(before)
        if (place := self._find_end(before, failed)) is not None:
            before, after = before[:place], before[place + 1 :]
            batch, failed = parse(before)
        self._lose(failed)
        self._lose([(number, "it stands after the end of the journal") for number, _ in after])
        self._parts.append(columns_of(batch))
        self._lines.append(batch.lines)
        return batch

    def requests(self) -> Requests:
        """All that can be, in the order of their ids. Of two with one id the first counts."""
        everything, lines = joined(self._parts), np.concatenate(self._lines)
        order = np.argsort(everything.id, kind="stable")
        again = np.zeros(len(order), np.bool_)
        again[1:] = np.diff(everything.id[order]) == 0
        self._lose(
            [
                (int(lines[i]), f"there is a request {everything.id[i]} before it")
                for i in order[again]
            ]
        )
        if again.any() or (np.diff(order) < 0).any():
            everything, lines = everything.take(order[~again]), lines[order[~again]]
        wrong = impossible(everything, 0 if self.end is None else self.end.ended_ns)
        self._lose([(int(lines[place]), why) for place, why in wrong])
        keep = np.ones(len(everything), np.bool_)
        keep[np.array([place for place, _ in wrong], dtype=np.int64)] = False
        return believed(everything.where(keep))

    def _find_end(self, lines: Sequence[tuple[int, bytes]], failed: Sequence[Failed]) -> int | None:
        """Where the first end line stands among `lines`: one that is no record."""
        suspects = {number for number, _ in failed}
        for place, (number, line) in enumerate(lines):
            if number in suspects:
                try:
                    self.end = _end.decode(line)
                except UNREADABLE:
                    continue
                return place
        return None

    def _lose(self, lines: Sequence[Failed]) -> None:
        self.damage += [Damage(self._file, number, why) for number, why in lines]


def _batches(stream: BinaryIO) -> Iterator[list[tuple[int, bytes]]]:
    """The numbered lines of a journal after its first, some megabytes at a time; empty ones hold
    nothing and are passed over.
    """
    number = 2
    while lines := stream.readlines(_BATCH):
        yield [(at, line.rstrip()) for at, line in enumerate(lines, start=number) if line.strip()]
        number += len(lines)


def is_whole(file: Path, identity: str | None = None) -> bool:
    """Whether the block was measured to its end: nothing of it has to be asked again.

    `identity`: the one that the journal must bear, None where any will do.
    """
    if (kept := identity_in(file)) is None or identity not in (None, kept):
        return False
    journal = read_journal(file)
    return (
        isinstance(journal, Journal) and journal.end is not None and journal.end.end == "complete"
    )


def identity_in(file: Path) -> str | None:
    """The identity in a journal's header; None where there is no journal with a header."""
    try:
        with file.open("rb") as stream:
            header = _read_header(file, stream.readline())
    except OSError:
        return None
    return header.identity if isinstance(header, JournalHeader) else None


class Prompts(dict[str, Prompt]):
    """The questions of a run by id. `damage`: the lines of its file that hold none."""

    damage: Sequence[Damage] = ()


def read_prompts(run: Path) -> Prompts:
    """The questions of a run; none where it has no `prompts.jsonl`."""
    file = run / "prompts.jsonl"
    prompts, damage = Prompts(), []
    try:
        lines = file.read_bytes().split(b"\n")
    except FileNotFoundError:
        lines = []
    except OSError as error:
        lines, damage = (
            [],
            [
                Damage(
                    Path(file.name),
                    0,
                    f"can't be read ({error.strerror}), so no answer can be scored",
                )
            ],
        )
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                prompt = _prompt.decode(line)
            except UNREADABLE as error:
                damage.append(
                    Damage(
                        Path(file.name),
                        number,
                        f"not a prompt ({error}), so its answers can't be scored",
                    )
                )
            else:
                prompts.setdefault(prompt.id, prompt)
    prompts.damage = damage
    return prompts


def journal_files(directory: Path) -> list[Path]:
    """The journals below a directory, in the order of their names."""
    return sorted(directory.rglob("block-*.jsonl"))


def named(damage: Sequence[Damage], most: int = 3) -> str:
    """The first few of them in words, and how many more there are."""
    words = "; ".join(map(str, damage[:most]))
    return f"{words}; and {len(damage) - most} more" if len(damage) > most else words
