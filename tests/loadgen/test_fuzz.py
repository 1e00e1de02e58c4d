"""The fuzzing targets on hypothesis's inputs: `make fuzz` gives them millions of atheris's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fuzz.data_reference import json_rows, spoken, tables, traces
from benchmarks.fuzz.data_targets import DATA_FRAGMENTS
from benchmarks.fuzz.reference import may_succeed, unchunked
from benchmarks.fuzz.run import SHARES
from benchmarks.fuzz.targets import FRAGMENTS, TARGETS

CHUNKS = [
    b"0\r\n",
    b"5\r\nabcde\r\n",
    b"5;x=1\r\nabcde\r\n",
    b"a\r\n",
    b"\r\n",
    b"X: y\r\n",
    b"zz\r\n",
    b"\r",
    b"1",
]
HEADS = [
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 503\r\n", b"HTTP/1.1 2x0\r\n", b"Content-Length: 5\r\n",
    b"Content-Length: -5\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n",
    b"Connection: close\r\n", b"X : y\r\n", b": y\r\n",
    b"\xff: \xff\r\n",
]  # fmt: skip
LINES = [
    b'{"schema_version":1}', b'{"id":1,"prompt_id":"q","scheduled_ns":0}',
    b'{"end":"complete","ended_ns":1,"window_end_ns":1}',
    b'{"id":"q","set":"eval","messages":{}}', b'{"id":1e400}', b'{"id":-1}', b"[" * 3000, b"\xff",
    b"null", b"\n", b"\n", b"\0",
]  # fmt: skip
PARTS = {"chunked": CHUNKS, "head": HEADS, "journal": LINES, "prompts": LINES}
PARTS |= dict.fromkeys(("trace", "examples", "conversations"), DATA_FRAGMENTS)


def test_every_target_has_its_share() -> None:
    assert SHARES.keys() == TARGETS.keys() and sum(SHARES.values()) == 100


@pytest.mark.parametrize("name", TARGETS)
def test_what_must_hold_of_any_bytes(name: str) -> None:
    parts = st.lists(
        st.sampled_from(PARTS.get(name, FRAGMENTS)) | st.binary(max_size=8), max_size=25
    ).map(b"".join)
    first = st.binary(min_size=1, max_size=1)
    check(TARGETS[name], st.binary(max_size=200) | st.builds(bytes.__add__, first, parts) | parts)


def check(target: Callable[[bytes], None], inputs: st.SearchStrategy[bytes]) -> None:
    @given(inputs)
    def holds(data: bytes) -> None:
        target(data)

    holds()


HEADER = (
    b'{"schema_version":1,"variant":"v","stage":"s","block":1,"seed":0,"transport":"socket","clock":"kernel","origin_monotonic_ns":1,'
    b'"origin_unix_ns":1,"model":"m","prompt_style":"plain","api":"chat","arrivals":"poisson","offered_rate":1.5,"concurrency":null,'
    b'"planned":2,"window_start_ns":0,"window_end_ns":9}\n'
)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (
            "journal",
            HEADER
            + b'{"id":1,"prompt_id":"q","scheduled_ns":3,'
            + b'"chunk_ns":[5-6,-],"chunk_tokens":[1,1]}\n',
        ),
        (
            "journal",
            HEADER
            + b'{"id":1,"prompt_id":"q","scheduled_ns":3,'
            + b'"chunk_ns":[5,--6],"chunk_tokens":[1,1]}\n',
        ),
        (
            "journal",
            HEADER
            + b'{"id":1,"prompt_id":"q","scheduled_ns":3,"chunk_ns":"5-6","chunk_tokens":[1,1]}\n',
        ),
        ("trace", b'{"at": 1, "hash_ids": 0}'),
        ("trace", b"Timestamp,Request tokens\n5,\x1f72\n"),
        ("reply", b'\x34\xef\xbb\xbfdata:{"choices": [{"text": "a", "finish_reason": "length"}]}'),
    ],
)
def test_what_fuzzing_has_found(name: str, data: bytes) -> None:
    TARGETS[name](data)


@pytest.mark.parametrize(
    ("body", "well"),
    [
        (b'data: {"choices": [{"finish_reason": "stop"}]}\n\ndata: [DONE]\n\n', True),
        (b'data: {"choices": [{"finish_reason": "length"}]}', True),
        (b'data: {"choices": [{"finish_reason": "abort"}]}\n\n', False),
        (b'data: {"choices": [{"finish_reason": "stop"}]}\n\ndata: {"error": "x"}\n\n', False),
        (b"data: [DONE]\n\n", False),
        (b"", False),
    ],
)
def test_the_judge(body: bytes, well: bool) -> None:
    assert may_succeed(body) is well


@pytest.mark.parametrize(
    ("stream", "carries"),
    [
        (b"5\r\nabcde\r\n0\r\n\r\n", (b"abcde", True)),
        (b"5;x\r\nabcde\r\n0\r\nX: y\r\n\r\n", (b"abcde", True)),
        (b"5\r\nabc", (b"abc", False)),
        (b"5\r\nabcdefg\r\n", None),
        (b"x\r\n", None),
        (b"", (b"", False)),
    ],
)
def test_the_judge_of_chunks(stream: bytes, carries: tuple[bytes, bool] | None) -> None:
    assert unchunked(stream) == carries


@pytest.mark.parametrize(
    ("file", "arrivals"),
    [
        (b'{"timestamp": 250, "input_length": 4}\n', [(0.25, [(4, None, (), None)])]),
        (
            b"TIMESTAMP,ContextTokens,GeneratedTokens\n1970-01-01 01:00:02.5+01:00,7,0\n",
            [(2.5, [(7, 1, (), None)])],
        ),
        (
            b'{"at": 1, "session_id": 1}\n{"session_id": 1, "hash_ids": [2]}',
            [(1.0, [(None, None, (), None), (None, None, (2,), None)])],
        ),
        (b'{"at": 2}\n{"at": 1}\n', None),
        (b'{"at": NaN}\n', None),
        (b"\xff", None),
    ],
)
def test_the_judge_of_traces(
    file: bytes, arrivals: list[tuple[float, list[tuple[object, ...]]]] | None
) -> None:
    assert next(traces(file), None) == arrivals


def test_the_judge_of_examples() -> None:
    [rows] = [rows for rows in tables(b"prompt;completion\nQ;1\n") if "prompt" in rows[0][1]]
    assert spoken(rows[0][1]) == (["Q"], "1")
    assert [
        spoken(row)
        for _, row in json_rows(b'[{"instruction": "I", "input": " ", "output": true}]') or []
    ] == [(["I"], "true")]
    assert json_rows(b"[1]") is None and json_rows(b'{"a": 1}\n\n{"a": 2}') is None
