"""Lines that a thread appends: they arrive, after half a line too, and a full disk ends them."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from foundation.files.appended_lines import AppendedLines


class Row(msgspec.Struct):
    number: int


def refuse(error: Exception) -> None:
    raise AssertionError(error)


def test_rows_are_appended_in_order_in_a_folder_that_is_made(tmp_path: Path):
    path = tmp_path / "engine" / "base.jsonl"
    for first in (0, 3):
        lines = AppendedLines(path, refuse)
        for number in range(first, first + 3):
            lines.add(Row(number))
        lines.flush()
    assert path.read_text() == "".join(f'{{"number":{number}}}\n' for number in range(6))


def test_rows_are_written_unasked(tmp_path: Path):
    path = tmp_path / "base.jsonl"
    AppendedLines(path, refuse).add(Row(1))
    until = time.monotonic() + 60
    while not path.read_text() and time.monotonic() < until:
        time.sleep(0.01)
    assert path.read_text() == '{"number":1}\n'


def test_half_a_line_costs_no_further_line(tmp_path: Path):
    path = tmp_path / "base.jsonl"
    path.write_text('{"number":1}\n{"num')
    lines = AppendedLines(path, refuse)
    lines.add(Row(2))
    lines.flush()
    assert path.read_text() == '{"number":1}\n{"num\n{"number":2}\n'


def test_a_full_disk_is_reported_once_and_ends_the_writing():
    errors: list[Exception] = []
    lines = AppendedLines(Path("/dev/full"), errors.append)
    for number in range(3):
        lines.add(Row(number))
        lines.flush()
    assert [str(error) for error in errors] == ["[Errno 28] No space left on device"]


def test_rows_that_wait_for_a_disk_that_hangs_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("foundation.files.appended_lines._MOST_ROWS", 5)
    errors: list[Exception] = []
    lines = AppendedLines(tmp_path / "base.jsonl", errors.append)
    for number in range(9):
        lines.add(Row(number))
    lines.flush()
    assert [str(error) for error in errors] == ["5 lines wait for the disk"]
    assert (tmp_path / "base.jsonl").read_text() == ""
