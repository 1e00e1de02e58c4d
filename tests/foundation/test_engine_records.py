"""Times inside the server: read from engine records and from the metrics in answers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import BadInput
from foundation.run.engine_record import EngineStep
from foundation.run.engine_records import EngineRecords, read_engine_records
from foundation.run.engine_times import (
    ENGINE_RECORD,
    NOBODY,
    OUTSIDE,
    RESPONSE_METRICS,
    TOO_LONG,
    TRACES,
    EngineTimes,
    of_response_metrics,
)
from foundation.run.journal import Journal, read_journal
from foundation.run.records import JournalEnd
from tests.run_files import (
    MS,
    answer,
    engine_request,
    engine_start,
    header,
    lines,
    write_block,
    write_engine,
)

ORIGIN = 7 * 10**12
STEP = EngineStep(
    ended_ns=1, elapsed_ns=1, context_requests=1, context_tokens=9, generation_requests=0,
    generation_tokens=0,
)  # fmt: skip
METRICS = {"queue_time_ms": 4.0, "time_to_first_token_ms": 20.0, "generation_time_ms": 30.0}


def records(run: Path) -> EngineRecords:
    return read_engine_records(run / "engine")


def journal(run: Path, count: int = 3, **fields: object) -> Journal:
    """Requests 0, 1, ... sent every 100 ms; each has its first text after 30 ms, its last 70."""
    requests = [
        answer(i, f"q{i}", i * 100 * MS, [(i * 100 + 30) * MS, 40 * MS], **fields)
        for i in range(count)
    ]
    end = JournalEnd(end="complete", ended_ns=10**10, window_end_ns=10**10)
    block = read_journal(write_block(run, header(origin_monotonic_ns=ORIGIN), requests, end))
    assert isinstance(block, Journal)
    return block


def times(run: Path, block: Journal) -> EngineTimes:
    return records(run).timed(block).requests.engine


def test_times_are_joined_by_key(tmp_path: Path) -> None:
    block = journal(tmp_path)
    second = engine_request(
        ORIGIN, 1, (5 * MS, 10 * MS, 38 * MS), finished_ns=ORIGIN + 169 * MS, in_server_ns=60 * MS
    )
    other = engine_request(ORIGIN + 1, 0, (1, 2, 3))  # of another block
    foreign = engine_request(ORIGIN, 2, (1, 2, 3), key="cmpl-of-somebody-else")
    write_engine(tmp_path, "merged", engine_start(), other, STEP, foreign, second, STEP)
    engine = times(tmp_path, block)
    assert engine.source.tolist() == [NOBODY, ENGINE_RECORD, NOBODY]
    columns = (engine.queued, engine.prefill, engine.decode, engine.finished)
    assert [column[1] for column in columns] == [5 * MS, 10 * MS, 38 * MS, 169 * MS]
    assert all(np.isnan(column[[0, 2]]).all() for column in columns)
    assert records(tmp_path).left_out.note() is None


def test_a_run_without_records_has_no_times(tmp_path: Path) -> None:
    engine = times(tmp_path, journal(tmp_path))
    assert len(records(tmp_path)) == 0
    assert engine.source.tolist() == [NOBODY] * 3
    assert np.isnan(engine.queued).all()


def test_traces_of_another_host_have_durations_only(tmp_path: Path) -> None:
    write_engine(
        tmp_path, "otlp", engine_start(source="OTLP"), engine_request(ORIGIN, 0, (MS, MS, MS))
    )
    engine = times(tmp_path, journal(tmp_path))
    assert engine.source.tolist() == [TRACES, NOBODY, NOBODY]
    assert engine.prefill[0] == MS
    assert np.isnan(engine.finished[0])


def test_bad_lines_are_left_out_and_named(tmp_path: Path) -> None:
    good = engine_request(ORIGIN, 0, (MS, MS, MS))
    again = engine_request(ORIGIN, 0, (2 * MS, MS, MS))
    negative = lines(engine_request(ORIGIN, 1, (MS, MS, MS))).replace(
        b'"queued_ns":', b'"queued_ns":-'
    )
    file = write_engine(tmp_path, "merged", good, engine_start(), good)
    file.write_bytes(file.read_bytes() + b"\x00\xff\n\n" + negative + lines(again, STEP)[:-20])
    left_out = records(tmp_path).left_out
    assert left_out.lines == 5
    assert [damage.line for damage in left_out.first] == [1, 4, 6, 8, 7]
    assert "which server wrote it" in left_out.first[0].why
    assert "before it" in left_out.first[-1].why
    note = left_out.note()
    assert note is not None
    assert note.startswith("5 lines of the engine record left out: ")
    assert times(tmp_path, journal(tmp_path)).queued[0] == MS


def test_of_thousands_of_bad_lines_the_first_are_kept(tmp_path: Path) -> None:
    file = write_engine(tmp_path, "merged", engine_start())
    file.write_bytes(file.read_bytes() + b"{}\n" * 5_000)
    left_out = records(tmp_path).left_out
    assert left_out.lines == 5_000
    assert len(left_out.first) == 20


def test_a_record_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    newer = lines(engine_start(schema_version=2)).replace(b'"source":', b'"was":')
    file = write_engine(tmp_path, "merged", engine_start())
    file.write_bytes(file.read_bytes() + newer)
    with pytest.raises(BadInput, match=r"merged\.jsonl:2: schema_version 2.*up to 1"):
        records(tmp_path)


@pytest.mark.parametrize(
    ("durations_ms", "finished_ms", "in_server_ms", "source"),
    [
        ((5, 20, 40), 69, 66, ENGINE_RECORD),
        ((5, 20, 40), 69, 63, TOO_LONG),
        ((5, 20, 40), 73, 66, OUTSIDE),  # ended after the answer had
        ((5, 20, 40), 63, 66, OUTSIDE),  # was queued before it was sent
        ((5, 20, 40), None, 66, ENGINE_RECORD),
        ((5, 20, 40), 69, None, ENGINE_RECORD),
        ((5, 20, 40), 73, None, OUTSIDE),
        ((5, 20, 47), None, None, TOO_LONG),
    ],
)
def test_times_that_cannot_be_true_are_left_out(
    tmp_path: Path,
    durations_ms: tuple[int, int, int],
    finished_ms: int | None,
    in_server_ms: int | None,
    source: int,
) -> None:
    queued, prefill, decode = (ms * MS for ms in durations_ms)
    request = engine_request(
        ORIGIN,
        0,
        (queued, prefill, decode),
        finished_ns=None if finished_ms is None else ORIGIN + finished_ms * MS,
        in_server_ns=None if in_server_ms is None else in_server_ms * MS,
    )
    write_engine(tmp_path, "merged", engine_start(), request)
    engine = times(tmp_path, journal(tmp_path))
    assert engine.source[0] == source
    assert np.isnan(engine.queued[0]) == (source < 0)


def test_the_record_counts_before_the_metrics_in_the_answer(tmp_path: Path) -> None:
    block = journal(tmp_path, server_metrics=METRICS)
    write_engine(tmp_path, "merged", engine_start(), engine_request(ORIGIN, 1, (MS, MS, MS)))
    engine = times(tmp_path, block)
    assert engine.source.tolist() == [RESPONSE_METRICS, ENGINE_RECORD, RESPONSE_METRICS]
    assert engine.queued.tolist() == [4 * MS, MS, 4 * MS]
    assert engine.prefill.tolist() == [20 * MS, MS, 20 * MS]
    assert engine.decode.tolist() == [30 * MS, MS, 30 * MS]


def test_metrics_longer_than_their_request_are_left_out(tmp_path: Path) -> None:
    block = journal(tmp_path, server_metrics=METRICS | {"queue_time_ms": 40.0})
    assert block.requests.engine.source.tolist() == [TOO_LONG] * 3


@pytest.mark.parametrize(
    "metrics",
    [
        None,
        {},
        {"queue_ms": 1.5},
        METRICS | {"queue_time_ms": None},
        METRICS | {"queue_time_ms": -1.0},
        METRICS | {"time_to_first_token_ms": "12"},
        METRICS | {"generation_time_ms": [1]},
    ],
)
def test_metrics_that_are_not_vllms_time_nothing(metrics: dict[str, object] | None) -> None:
    for form in (metrics, msgspec.Raw(msgspec.json.encode(metrics))):
        assert of_response_metrics([form]).source.tolist() == [NOBODY]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=12))
def test_the_first_record_of_a_key_counts(
    tmp_path_factory: pytest.TempPathFactory, keys: list[tuple[int, int]]
) -> None:
    run = tmp_path_factory.mktemp("run")
    rows = [
        engine_request(ORIGIN + origin, number, (place, 0, 0))
        for place, (origin, number) in enumerate(keys)
    ]
    write_engine(run, "a", engine_start(), *rows)
    first: dict[tuple[int, int], int] = {}
    for place, key in enumerate(keys):
        first.setdefault(key, place)
    kept = records(run)
    by_key = {
        (int(origin) - ORIGIN, int(number)): int(durations[0])
        for origin, number, durations in zip(kept.origin, kept.number, kept.durations, strict=True)
    }
    assert by_key == first
    assert kept.left_out.lines == len(keys) - len(first)
