"""Damage of every kind, anywhere: it is named, nothing else is lost, and the report is made."""

from __future__ import annotations

import json
import random
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.errors import BadInput
from foundation.run.ceiling import Ceiling
from foundation.run.journal import Damage, Journal, read_journal
from foundation.run.json_files import read_json
from foundation.run.parsing import batch_of, parse
from foundation.run.records import RequestRecord
from foundation.run.requests import columns_of
from results.analysis import analyse
from results.measures.counter_samples import read_counter_samples
from results.report.improvement import improvement_section
from tests.results.synthetic import inputs, request, write_journal, write_prompts
from tests.results.test_journal import columns

RECORDS = [request(i, "p", 20 * i, 10 + i % 7, 5, output_tokens=3, text="yes") for i in range(40)]
HUGE = "9" * 40
WRONG = {
    "cut": lambda line: line[: len(line) // 2],
    "garbage": lambda line: b"\xff\xfe garbage \x80",
    "binary zeros": lambda line: b"\0" * 64,
    "NaN": lambda line: line.replace(b'"output_tokens":3', b'"output_tokens":NaN'),
    "infinity": lambda line: line.replace(b'"output_tokens":3', b'"output_tokens":1e999'),
    "a huge integer": lambda line: line.replace(
        b'"output_tokens":3', b'"output_tokens":' + HUGE.encode()
    ),
    "a negative count": lambda line: line.replace(b'"output_tokens":3', b'"output_tokens":-3'),
    "a negative time": lambda line: line.replace(b'"sent_ns":', b'"sent_ns":-1'),
    "a negative gap": lambda line: line.replace(b'"chunk_ns":[', b'"chunk_ns":[-5,'),
    "a huge gap": lambda line: line.replace(
        b'"chunk_ns":[', b'"chunk_ns":[' + HUGE.encode() + b","
    ),
    "gaps that add up to years": lambda line: line.replace(
        b'"chunk_ns":[', b'"chunk_ns":[9007199254740992,1,'
    ),
    "a gap that is a float": lambda line: line.replace(b'"chunk_ns":[', b'"chunk_ns":[1.5,'),
    "a gap that is null": lambda line: line.replace(b'"chunk_ns":[', b'"chunk_ns":[null,'),
    "a list in the list": lambda line: line.replace(b'"chunk_ns":[', b'"chunk_ns":[[1],'),
    "no list": lambda line: line.replace(b'"chunk_tokens":[1,1,1]', b'"chunk_tokens":null'),
    "deep nesting": lambda line: (
        line[:-1] + b',"server_metrics":' + b"[" * 5_000 + b"]" * 5_000 + b"}"
    ),
    "wrong types": lambda line: line.replace(b'"prompt_id":"p"', b'"prompt_id":7'),
    "a failure that is none": lambda line: line.replace(b'"failure":null', b'"failure":"sunspots"'),
    "no newline": lambda line: line + line,
    "a list": lambda line: b"[1,2,3]",
    "half a character": lambda line: line.replace(b'"text":"yes"', b'"text":"\\ud800"'),
}


def journal(run: Path, variant: str = "base", block: int = 1) -> Path:
    return write_journal(run, variant, block, RECORDS, window_ms=(0, 800))


def lines_of(file: Path) -> list[bytes]:
    return file.read_bytes().split(b"\n")[:-1]


def write(file: Path, lines: list[bytes]) -> None:
    file.write_bytes(b"\n".join(lines) + b"\n")


def read(file: Path) -> Journal:
    journal = read_journal(file)
    assert isinstance(journal, Journal), journal
    return journal


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("place", [1, 20, 40])
def test_a_damaged_line_is_named_and_no_other_is_lost(
    tmp_path: Path, kind: str, place: int
) -> None:
    file = journal(tmp_path)
    lines = lines_of(file)
    changed = WRONG[kind](lines[place])
    assert changed != lines[place]
    write(file, [*lines[:place], changed, *lines[place + 1 :]])
    rest = read(file)
    assert rest.requests.id.tolist() == [i for i in range(40) if i != place - 1]
    assert [(each.file, each.line) for each in rest.damage] == [(file, place + 1)]
    assert f"base/main/block-01.jsonl:{place + 1}: " in str(rest.damage[0]) and "\n" not in str(
        rest.damage[0]
    )
    assert rest.end is not None


@pytest.mark.parametrize("kind", WRONG)
def test_the_analysis_goes_on_and_says_so(tmp_path: Path, kind: str) -> None:
    write_prompts(tmp_path, {"p": "yes"})
    for variant in ("base", "tuned"):
        for block in (1, 2):
            file = journal(tmp_path, variant, block)
    lines = lines_of(file)
    write(file, [*lines[:7], WRONG[kind](lines[7]), *lines[8:]])
    base, tuned = analyse(inputs(tmp_path, ["base", "tuned"])).variants
    assert base.stages[0].planned == 80 and tuned.stages[0].planned == 79
    assert tuned.stages[0].validity.level != "VALID"
    assert any("main/block-02.jsonl:8" in reason for reason in tuned.stages[0].validity.reasons)


def test_fields_that_are_not_known_or_not_there_do_no_harm(tmp_path: Path) -> None:
    file = journal(tmp_path)
    lines = lines_of(file)
    rows = [json.loads(line) for line in lines]
    for name in ("workers", "receiver"):
        del rows[0][name]
    del rows[1]["shared_tokens"], rows[1]["cached_tokens"], rows[1]["client_lag_ns"]
    rows[2]["later"] = {"than": ["this"]}
    rows[-1]["weather"] = "fine"
    write(file, [json.dumps(row).encode() for row in rows])  # with spaces, too
    rest = read(file)
    assert not rest.damage and rest.end is not None
    assert len(rest.requests) == 40


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (b"", "not the first line"),
        (b"{", "not the first line"),
        (b'{"schema_version":1}', "variant"),
        (b"\0\0", "not the first"),
    ],
)
def test_without_its_header_a_journal_is_named_and_left_out(
    tmp_path: Path, header: bytes, says: str
) -> None:
    damaged, whole = journal(tmp_path), journal(tmp_path, block=2)
    write(damaged, [header, *lines_of(damaged)[1:]])
    damage = read_journal(damaged)
    assert isinstance(damage, Damage) and says in str(damage)
    (stage,) = analyse(inputs(tmp_path, ["base"])).variants[0].stages
    assert stage.blocks == 1 and stage.planned == 40
    assert any("block-01.jsonl:1" in reason for reason in stage.validity.reasons)
    whole.write_bytes(b"")
    assert str(read_journal(whole)).endswith("block-02.jsonl:1: the file is empty")
    with pytest.raises(BadInput, match="no journal"):
        analyse(inputs(tmp_path, ["base"]))


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    journal(tmp_path)
    (tmp_path / "load" / "base" / "main" / "block-02.jsonl").mkdir()
    (tmp_path / "load" / "base" / "main" / "block-03.jsonl").symlink_to(tmp_path / "gone")
    (tmp_path / "prompts.jsonl").mkdir()
    summary = analyse(inputs(tmp_path, ["base"]))
    (reason,) = (
        each for each in summary.variants[0].stages[0].validity.reasons if "block-02.jsonl" in each
    )
    assert (
        "block-02.jsonl: can't be opened (Is a directory)" in reason
        and "block-03.jsonl: can't be opened" in reason
    )
    assert any(note.startswith("prompts.jsonl: can't be read") for note in summary.notes)


def test_what_stands_after_the_end_is_left_out_and_named(tmp_path: Path) -> None:
    file = journal(tmp_path)
    lines = lines_of(file)
    write(file, [*lines, lines[3], lines[-1], lines[0]])
    rest = read(file)
    assert len(rest.requests) == 40 and rest.end is not None
    assert [each.line for each in rest.damage] == [43, 44, 45]
    assert {each.why for each in rest.damage} == {"it stands after the end of the journal"}


def test_of_two_requests_with_one_id_the_first_counts(tmp_path: Path) -> None:
    file = journal(tmp_path)
    lines = lines_of(file)
    write(file, [*lines[:5], lines[2], *lines[5:]])
    rest = read(file)
    assert len(rest.requests) == 40
    assert [(each.line, each.why) for each in rest.damage] == [
        (6, "there is a request 1 before it")
    ]


def test_blank_lines_and_windows_line_ends_are_no_damage(tmp_path: Path) -> None:
    file = journal(tmp_path)
    file.write_bytes(b"\r\n".join(lines_of(file)).replace(b"\n", b"\n\n") + b"\r\n")
    rest = read(file)
    assert not rest.damage and len(rest.requests) == 40 and rest.end is not None


@settings(max_examples=60)
@given(st.data())
def test_bytes_that_rot_anywhere_never_stop_the_reader(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = journal(tmp_path_factory.mktemp("run"))
    rotten = bytearray(file.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(rotten) - 1), max_size=8)):
        rotten[place] = data.draw(st.integers(0, 255))
    file.write_bytes(bytes(rotten))
    rest = read_journal(file)
    if isinstance(rest, Journal):
        assert len(rest.requests) + len(rest.damage) >= 39
        assert len(set(rest.requests.id.tolist())) == len(rest.requests)


@settings(max_examples=60)
@given(st.lists(st.sampled_from(range(40)), max_size=12), st.integers(0, 2**31), st.booleans())
def test_both_ways_of_parsing_give_the_same_columns(
    chosen: list[int], seed: int, lags: bool
) -> None:
    draw = random.Random(seed)
    records = []
    for number, i in enumerate(chosen):
        lag = [draw.randint(-9, 10**6) for _ in RECORDS[i].chunk_ns] if lags else None
        tokens = [draw.choice((0, 1, 1, 12)) for _ in RECORDS[i].chunk_ns]
        records.append(
            msgspec.structs.replace(RECORDS[i], id=number, client_lag_ns=lag, chunk_tokens=tokens)
        )
    lines = [(number, msgspec.json.encode(record)) for number, record in enumerate(records)]
    fast, failed = parse(lines)
    assert not failed
    spaced = [
        (number, line.replace(b",", b" , ")) for number, line in lines
    ]  # not as it is written: one by one
    slow, failed = parse(spaced)
    assert not failed
    assert (
        columns(columns_of(fast))
        == columns(columns_of(slow))
        == columns(columns_of(batch_of(records, range(len(records)))))
    )


def test_a_damaged_prompt_is_named_and_the_others_are_scored(tmp_path: Path) -> None:
    write_prompts(tmp_path, {"p": "yes", "q": "no", "r": "yes"})
    lines = lines_of(tmp_path / "prompts.jsonl")
    write(tmp_path / "prompts.jsonl", [lines[0], lines[1][:-9], lines[2]])
    write_journal(
        tmp_path,
        "base",
        1,
        [request(i, "pqr"[i % 3], 20 * i, 10, 5, text="yes") for i in range(60)],
        window_ms=(0, 1200),
    )
    summary = analyse(inputs(tmp_path, ["base"]))
    assert (
        summary.variants[0].metrics["quality"].value == 1
        and summary.variants[0].metrics["quality"].n == 2
    )
    assert any(
        note.startswith("prompts.jsonl:2: not a prompt") and "can't be scored" in note
        for note in summary.notes
    )


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\0\0\0", b'{"machine":"m","events_per_s":"many"}']
)
def test_a_damaged_calibration_is_named(tmp_path: Path, content: bytes) -> None:
    journal(tmp_path)
    (tmp_path / "calibration.json").write_bytes(content)
    assert isinstance(read_json(tmp_path, "calibration.json", Ceiling), Damage)
    notes = analyse(inputs(tmp_path, ["base"])).notes
    assert any(
        note.startswith("calibration.json: can't be read") and "ceiling" in note for note in notes
    )


@pytest.mark.parametrize("content", [b"", b"PAR1 but no more", b"\0" * 100])
def test_damaged_telemetry_is_named(tmp_path: Path, content: bytes) -> None:
    journal(tmp_path)
    (tmp_path / "telemetry").mkdir()
    (tmp_path / "telemetry" / "base.parquet").write_bytes(content)
    assert isinstance(read_counter_samples(tmp_path, "base"), Damage)
    assert any(
        "telemetry/base.parquet: can't be read" in note
        for note in analyse(inputs(tmp_path, ["base"])).notes
    )


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b'{"rounds": 1}'])
def test_damaged_rounds_are_named(tmp_path: Path, content: bytes) -> None:
    assert improvement_section(tmp_path) is None
    (tmp_path / "improve.json").write_bytes(content)
    section = improvement_section(tmp_path)
    assert section is not None and section.sentence.startswith("improve.json: can't be read")
    assert not section.rounds


def test_telemetry_of_other_columns_is_named(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "telemetry").mkdir()
    for table in (
        {"weather": [1]},
        {"monotonic_ns": ["x"], "prefix_cache_hits": [1], "prefix_cache_queries": [2]},
    ):
        pq.write_table(pa.table(table), tmp_path / "telemetry" / "base.parquet")
        assert isinstance(read_counter_samples(tmp_path, "base"), Damage)


def test_every_column_of_a_record_is_in_parquet(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from foundation.run.parquet import write_parquet

    full = RequestRecord(
        id=0, prompt_id="p", scheduled_ns=1, sent_ns=2, chunk_ns=[3, 4], chunk_tokens=[1, 2],
        done_ns=9, status=200, finish_reason="stop", input_tokens=5, output_tokens=3,
        tokens_from="server", text="yes", server_metrics={"queue_ms": 1.5},
        client_lag_ns=[7, -8], shared_tokens=4, cached_tokens=2,
    )  # fmt: skip
    empty = RequestRecord(
        id=1, prompt_id="p", scheduled_ns=5, failure="dropped", error="over max_in_flight"
    )
    write_journal(tmp_path, "base", 3, [full, empty], offered_rate=2.5)
    rows = pq.read_table(
        write_parquet(tmp_path / "load", tmp_path / "requests.parquet")
    ).to_pylist()
    block = {"variant": "base", "stage": "main", "block": 3, "offered_rate": 2.5}
    assert rows[0] == block | msgspec.structs.asdict(full) | {"server_metrics": '{"queue_ms":1.5}'}
    assert rows[1] == block | msgspec.structs.asdict(empty)
    assert np.array_equal(list(rows[0]), [*block, *RequestRecord.__struct_fields__])
