"""Journals of parts, joined: whatever the parts, the journal is the whole."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.run.records import JournalEnd, RequestRecord
from loadgen.sending.journal_parts import Machines, join, merge, part_of
from tests.run_files import header, lines

END = JournalEnd(end="complete", ended_ns=1000, window_end_ns=1000)


@settings(max_examples=40, deadline=None)
@given(
    ends=st.lists(st.integers(0, 1000), max_size=30),
    parts=st.integers(1, 6),
    data=st.data(),
)
def test_any_partition_of_the_records_makes_the_whole(
    ends: list[int], parts: int, data: st.DataObject
) -> None:
    owners = [data.draw(st.integers(0, parts - 1)) for _ in ends]
    records = [
        RequestRecord(id=i, prompt_id="q", scheduled_ns=0, done_ns=done)
        for i, done in enumerate(ends)
    ]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"part-{n}.jsonl" for n in range(parts)]
        for n, file in enumerate(files):
            own = [r for r, owner in zip(records, owners, strict=True) if owner == n]
            own.sort(key=lambda record: record.done_ns or 0)
            file.write_bytes(lines(header(seed=n), *own, END))
        before = [file.read_bytes() for file in files]
        journal = Path(folder) / "whole.jsonl"
        assert join(files, journal, header(machines=parts), parts) is not None
        assert [file.read_bytes() for file in files] == before
        first, *middle, last = journal.read_bytes().splitlines(keepends=True)
    assert (first, last) == (lines(header(machines=parts)), lines(END))
    assert sorted(middle) == sorted(lines(record) for record in records)
    times = [msgspec.json.decode(line, type=RequestRecord).done_ns for line in middle]
    assert times == sorted(ends)


def test_a_part_that_is_not_there_leaves_no_end(tmp_path: Path) -> None:
    part, journal = tmp_path / "part", tmp_path / "journal"
    part.write_bytes(lines(header(), RequestRecord(id=1, prompt_id="q", scheduled_ns=0), END))
    assert join([part], journal, header(), 2) is None
    assert len(journal.read_bytes().splitlines()) == 2


def test_parts_of_other_machines_become_a_journal_on_the_clock_here(tmp_path: Path) -> None:
    journal = tmp_path / "block.jsonl"
    for number in (0, 1):
        ahead = header(planned=2, workers=4, origin_monotonic_ns=10**15, origin_unix_ns=10**18)
        record = RequestRecord(id=number, prompt_id="q", scheduled_ns=number, done_ns=5 - number)
        end = JournalEnd(end="complete", ended_ns=9, window_end_ns=9, clock_step_ns=-7)
        part_of(journal, number).write_bytes(lines(ahead, record, end))
    here = Machines(
        count=2, origin_monotonic_ns=12, origin_unix_ns=34, clock_bound_ns=56, clock_step_ns=250
    )
    end = merge([part_of(journal, 0), part_of(journal, 1)], journal, here)
    first, *records, _ = journal.read_bytes().splitlines()
    fields = msgspec.json.decode(first)
    assert [fields[key] for key in ("machines", "workers", "clock_bound_ns")] == [2, 4, 56]
    assert (fields["origin_monotonic_ns"], fields["origin_unix_ns"]) == (12, 34)
    assert [msgspec.json.decode(record)["scheduled_ns"] for record in records] == [1, 0]
    assert end is not None and end.clock_step_ns == 250
    assert [file.name for file in tmp_path.iterdir()] == ["block.jsonl"]


@pytest.mark.parametrize(
    ("concurrency", "ends", "window_end_ns"),
    [
        (None, ("complete", "complete"), 900),
        (None, ("complete", "interrupted"), 600),
        (None, ("interrupted", "interrupted"), 600),
        (4, ("complete", "complete"), 600),
        (4, ("interrupted", "complete"), 600),
    ],
)
def test_the_window_of_a_load_that_was_stopped_ends_where_the_first_part_was(
    tmp_path: Path, concurrency: int | None, ends: tuple[str, str], window_end_ns: int
) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for file, word, until_ns in zip(files, ends, (900, 600), strict=True):
        file.write_bytes(
            lines(header(), JournalEnd(end=word, ended_ns=1000, window_end_ns=until_ns))
        )
    end = join(files, tmp_path / "whole", header(concurrency=concurrency), 2)
    assert end is not None and end.window_end_ns == window_end_ns
    assert end.end == ("complete" if set(ends) == {"complete"} else "interrupted")


@pytest.mark.parametrize("first", [b"", b"{", b"7\n", b'{"schema_version": 1}\n', b'{"\xff": 1}\n'])
def test_parts_without_a_header_that_can_be_read_stay(tmp_path: Path, first: bytes) -> None:
    journal = tmp_path / "block.jsonl"
    parts = [part_of(journal, 0), part_of(journal, 1)]
    for part, content in zip(parts, (lines(header(), END), first), strict=True):
        part.write_bytes(content)
    for order in (parts, parts[::-1]):
        assert merge(order, journal) is None
    assert sorted(tmp_path.iterdir()) == parts
