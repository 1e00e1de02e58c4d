"""Journals read back: whole, cut off at any byte, damaged, newer than we are."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import BadInput
from foundation.run.journal import Damage, Journal, is_whole, read_journal, read_prompts
from foundation.run.parquet import write_parquet
from foundation.run.records import RequestRecord
from foundation.run.requests import Requests, requests_of
from tests.results.synthetic import request, write_journal, write_prompts

RECORDS = [
    request(0, "a", 0, 10, 5),
    request(1, "b", 100, 20, 5, failure="reset"),
    request(2, "c", 200, 30, 5),
]


def read(file: Path) -> Journal:
    journal = read_journal(file)
    assert isinstance(journal, Journal), journal
    return journal


def columns(requests: Requests) -> dict[str, list[object]]:
    """Every column as a list, NaN as None."""

    def plain(column: object) -> list[object]:
        values = column.tolist() if isinstance(column, np.ndarray) else list(column)
        return [None if value != value else value for value in values]

    own = {
        each.name: getattr(requests, each.name)
        for each in fields(requests)
        if each.name not in ("chunks", "engine")
    }
    parts = {
        f"{type(part).__name__}.{each.name}": getattr(part, each.name)
        for part in (requests.chunks, requests.engine)
        for each in fields(part)
    }
    return {name: plain(column) for name, column in (own | parts).items()}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = write_journal(tmp_path, "base", 3, RECORDS)
    journal = read(file)
    assert (journal.header.variant, journal.header.block) == ("base", 3)
    assert columns(journal.requests) == columns(requests_of(RECORDS))
    assert journal.end is not None
    assert is_whole(file)


@given(st.data())
def test_a_kill_costs_no_more_than_the_line_it_cut(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = write_journal(tmp_path_factory.mktemp("run"), "base", 1, RECORDS)
    whole = file.read_bytes()
    kept = whole[: data.draw(st.integers(0, len(whole) - 2))]
    file.write_bytes(kept)
    complete_lines = kept.count(b"\n")
    journal = read_journal(file)
    if complete_lines == 0:
        assert isinstance(journal, Damage)
        return
    assert isinstance(journal, Journal)
    assert journal.end is None
    assert not is_whole(file)
    n = len(journal.requests)
    assert n - (complete_lines - 1) in (
        0,
        1,
    )  # the cut line counts where only its newline is missing
    assert columns(journal.requests) == columns(requests_of(RECORDS[:n]))


def test_an_interrupted_block_is_not_whole(tmp_path: Path) -> None:
    assert not is_whole(write_journal(tmp_path, "base", 1, RECORDS, end="interrupted"))
    assert not is_whole(tmp_path / "nothing.jsonl")


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    file = write_journal(tmp_path, "base", 1, RECORDS)
    lines = file.read_bytes().split(b"\n")
    lines[2] = b'{"id": 1, "prompt'
    file.write_bytes(b"\n".join(lines))
    journal = read(file)
    assert journal.requests.id.tolist() == [0, 2]
    assert [str(each) for each in journal.damage] == [
        "base/main/block-01.jsonl:3: Input data was truncated",
    ]


def test_a_newer_journal_is_refused(tmp_path: Path) -> None:
    file = write_journal(tmp_path, "base", 1, RECORDS)
    file.write_bytes(file.read_bytes().replace(b'"schema_version":1', b'"schema_version":99'))
    with pytest.raises(BadInput, match=r"schema_version 99"):
        read_journal(file)


def test_prompts_by_id(tmp_path: Path) -> None:
    assert read_prompts(tmp_path) == {}
    write_prompts(tmp_path, {"a": "yes", "b": "no"})
    assert {id: prompt.reference for id, prompt in read_prompts(tmp_path).items()} == {
        "a": "yes",
        "b": "no",
    }
    (tmp_path / "prompts.jsonl").write_text("{}\n")
    damaged = read_prompts(tmp_path)
    assert damaged == {} and [each.line for each in damaged.damage] == [1]
    assert "so its answers can't be scored" in str(damaged.damage[0])


def test_parquet_holds_every_request(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    write_journal(tmp_path, "base", 1, RECORDS)
    write_journal(tmp_path, "tuned", 2, RECORDS[:2])
    rows = pq.read_table(
        write_parquet(tmp_path / "load", tmp_path / "requests.parquet")
    ).to_pylist()
    assert [(row["variant"], row["block"], row["id"]) for row in rows] == [
        ("base", 1, 0), ("base", 1, 1), ("base", 1, 2), ("tuned", 2, 0), ("tuned", 2, 1),
    ]  # fmt: skip
    assert rows[0].keys() >= {"shared_tokens", "cached_tokens"}
    assert rows[0].keys() >= set(RequestRecord.__struct_fields__)
    assert rows[0]["chunk_ns"] == RECORDS[0].chunk_ns
    assert rows[0]["server_metrics"] is None
    assert rows[1]["failure"] == "reset"
