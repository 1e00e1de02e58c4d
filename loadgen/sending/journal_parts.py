"""One journal from the parts that several workers or machines wrote."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from foundation.files.atomic_write import whole_file
from foundation.run.records import JournalEnd, JournalHeader

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, kw_only=True)
class Machines:
    """The machines that a journal's parts come from, seen from this one.

    `count` of them. `origin_monotonic_ns`, `origin_unix_ns`: the block's origin on the clocks here.
    `clock_bound_ns`, `clock_step_ns`: as in the journal's header and end line.
    """

    count: int
    origin_monotonic_ns: int
    origin_unix_ns: int
    clock_bound_ns: int | None
    clock_step_ns: int = 0


def part_of(journal: Path, number: int) -> Path:
    """The file of a part, beside the journal."""
    return journal.with_suffix(f".part-{number}")


def merge(
    parts: Sequence[Path], journal: Path, machines: Machines | None = None
) -> JournalEnd | None:
    """Merges the workers' parts into one journal and removes them: records in the order they
    ended.

    Where a worker was killed before it wrote its end line, the journal has none either, and None is
    returned. Where one has no header that can be read, nothing is merged and all parts stay.
    `machines`: where they come from, None for this one.
    """
    headers = [_header_of(part) for part in parts if part.is_file()]
    if not headers or (header := headers[0]) is None or None in headers:
        return None
    if machines is not None:
        header = msgspec.structs.replace(
            header,
            machines=machines.count,
            clock_bound_ns=machines.clock_bound_ns,
            origin_monotonic_ns=machines.origin_monotonic_ns,
            origin_unix_ns=machines.origin_unix_ns,
        )
    end = join(parts, journal, header, len(parts), machines.clock_step_ns if machines else 0)
    for part in parts:
        part.unlink(missing_ok=True)
    return end


def join(
    parts: Sequence[Path], journal: Path, header: JournalHeader, of: int, clock_step_ns: int = 0
) -> JournalEnd | None:
    """Writes one journal with this header from parts, and leaves the parts as they are.

    Where one of the `of` parts of the block is not there, or has no end line, the journal has none
    either, and None is returned. `clock_step_ns`: how far a machine's clock was set against ours.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(part.open("rb")) for part in parts if part.is_file()]
        for file in files:
            file.readline()
        ends: list[JournalEnd] = []
        with whole_file(journal) as place, place.open("wb") as out:
            out.write(msgspec.json.encode(header) + b"\n")
            rows = heapq.merge(*(_records(file, ends) for file in files), key=lambda row: row[0])
            out.writelines(line for _, line in rows)
            end = _joint_end(ends, header, clock_step_ns) if len(ends) == of else None
            if end is not None:
                out.write(msgspec.json.encode(end) + b"\n")
    return end


def _header_of(part: Path) -> JournalHeader | None:
    """The header of a part; None where its worker was killed before it was whole."""
    with part.open("rb") as stream:
        line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    try:
        return msgspec.json.decode(line, type=JournalHeader)
    except _UNREADABLE:
        return None


def _joint_end(ends: Sequence[JournalEnd], header: JournalHeader, clock_step_ns: int) -> JournalEnd:
    """The end line of the merged journal.

    The window of an open loop that was stopped ends where the first part of it was: the others
    may have sent a little longer, or all that they had.
    """
    is_whole = all(end.end == "complete" for end in ends)
    window_end = max if is_whole and not header.concurrency else min
    return JournalEnd(
        end="complete" if is_whole else "interrupted",
        ended_ns=max(end.ended_ns for end in ends),
        window_end_ns=window_end(end.window_end_ns for end in ends),
        loop_stall_max_ns=max(end.loop_stall_max_ns for end in ends),
        client_cpu_s=sum(end.client_cpu_s for end in ends),
        clock_step_ns=max((clock_step_ns, *(end.clock_step_ns for end in ends)), key=abs),
    )


class _Ended(msgspec.Struct):
    done_ns: int | None = None


def _records(file: IO[bytes], ends: list[JournalEnd]) -> Iterator[tuple[int, bytes]]:
    """The records of a part with the time each ended. Its end line goes to `ends`."""
    at_ns = 0
    for line in file:
        if not line.endswith(b"\n"):  # the worker was killed while it wrote, or the disk lost it
            return
        try:
            if line.startswith(b'{"end":'):
                ends.append(msgspec.json.decode(line, type=JournalEnd))
                return
            at_ns = max(at_ns, msgspec.json.decode(line, type=_Ended).done_ns or 0)
        except _UNREADABLE:
            return
        yield at_ns, line
