"""What holds for any data file or trace: BadInput, or what json and csv of Python read in it."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.fuzz.data_reference import (
    Request,
    Rows,
    json_rows,
    spoken,
    strings_in,
    tables,
    traces,
)
from foundation.data.examples import Example, read_examples
from foundation.errors import BadInput
from loadgen.prompts.conversations import read_sessions
from loadgen.schedule.traces import Arrival, read_trace

_MEMORY = Path("/dev/shm")
# A file a time: on a disk, most of the time would go into it.
_KEPT = tempfile.TemporaryDirectory(prefix="fuzz-data-", dir=_MEMORY if _MEMORY.is_dir() else None)
_FOLDER = Path(_KEPT.name)
_ENDINGS = (".jsonl", ".json", ".csv", ".tsv")

# A byte stands for one of these, so that most inputs are almost files.
_ROWS = [
    '{"at": 0, "input_tokens": 30, "output_tokens": 5}\n', '{"at": 1.5, "input_tokens": 30.0}\n',
    '{"at": "2"}\n', '{"at": NaN}\n',
    '{"timestamp": 250, "input_length": 40, "output_length": 6, "hash_ids": [1, 2]}\n',
    '{"timestamp": 500, "text_input": "Tell me", "output_length": 6}\n',
    '{"session_id": "a", "timestamp": 600}\n',
    '{"session_id": "a", "delay": 300, "input_length": 20, "output_length": 6}\n',
    '{"session_id": 7, "timestamp": 1e3}\n',
    '{"chat_id": 1, "timestamp": 0.5, "input_length": 9, "output_length": 1, "hash_ids": []}\n',
    "TIMESTAMP,ContextTokens,GeneratedTokens\n", "2023-11-16 18:17:03.9799600,4808,10\n",
    "2023-11-16 18:17:04Z,4808,10\n", "2024-03-31T02:30:00+02:00,1,2\n",
    "Timestamp,Request tokens,Response tokens\n", "Timestamp;Model;Request tokens\n",
    "5,472,18\n", "5.25,30.0,0\n", "nan,1,1\n", "-1,1,1\n", "6;GPT-4;3\n",
    '{"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}\n',
    '{"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}, '
    '{"role": "assistant", "content": "A"}]}\n',
    '{"conversations": [{"from": "human", "value": "Q1"}, {"from": "gpt", "value": "A1"}, '
    '{"from": "human", "value": "Q2"}, '
    '{"from": "gpt", "value": "A2"}]}\n',
    '{"conversations": [{"from": "human", "value": null}, {"from": "gpt", "value": "A"}]}\n',
    '{"conversations": []}\n', '{"prompt": "Q", "completion": "A"}\n',
    '{"prompt": "Q", "completion": 1.0}\n', '{"prompt": "Q", "completion": true}\n',
    '{"instruction": "I", "input": "", "output": "A"}\n',
    '{"instruction": "I", "input": "X", "output": "A"}\n',
    "prompt,completion\n", "prompt\tcompletion\n", "prompt;completion\n", "Q,A\n",
    '"Q\nQ","A ""A"""\n', "Q\tA\n", "Q;A\n",
]  # fmt: skip
_PIECES = [
    "[", "]", ",", "{", "}", '"', ":", " ", "\n", "\r\n", "\r", "\t", ";", "\ufeff", "\u2028", "\0",
    "\\", "\\ud800", "\\u0041", '"at"', '"timestamp"', '"messages"', '"role"', '"user"',
    '"content"', '"value"', '"hash_ids"', '"delay"', '"weight"',
    "null", "true", "NaN", "Infinity", "1e999", "-1", "0", "0.5", "99999999999999999999", "1e-400",
    "é", "x" * 40, '{"type": "text", "text": "part"}', '"tools"', '"system"', '"history"',
    '[["q", "a"]]', '"weight": 0',
]  # fmt: skip
DATA_FRAGMENTS = [text.encode() for text in (*_ROWS, *_ROWS, *_PIECES)] + [b"\xff", b"\xc3"]


def _fragments(data: bytes) -> bytes:
    return b"".join(DATA_FRAGMENTS[byte % len(DATA_FRAGMENTS)] for byte in data[:30])


def _written(ending: str, data: bytes) -> Path:
    file = _FOLDER / f"data{ending}"
    file.write_bytes(data)
    return file


def trace(data: bytes) -> None:
    """A trace is refused, or read as the reference reads it."""
    file = _written(".trace", data)
    read_trace.cache_clear()
    try:
        arrivals = read_trace(file)
    except BadInput as refusal:
        _is_one_line(refusal, file)
        return
    times = [arrival.at for arrival in arrivals]
    assert arrivals and times == sorted(times) and times[0] >= 0 and math.isfinite(times[-1]), (
        "times out of order"
    )
    assert any(_agree(arrivals, other) for other in traces(data)), f"success from garbage: {data!r}"


def _agree(arrivals: Sequence[Arrival], other: Sequence[tuple[float, list[Request]]]) -> bool:
    return len(arrivals) == len(other) and all(
        math.isclose(ours.at, at, rel_tol=1e-12, abs_tol=1e-6)
        and [
            Request(turn.input_tokens, turn.output_tokens, turn.hash_ids, turn.text)
            for turn in ours.turns
        ]
        == requests
        for ours, (at, requests) in zip(arrivals, other, strict=True)
    )


def examples(data: bytes) -> None:
    """Examples are refused, or read as the reference reads them."""
    ending = _ENDINGS[data[0] % len(_ENDINGS)] if data else ".jsonl"
    _examples(ending, data[1:])


def _examples(ending: str, data: bytes) -> None:
    file = _written(ending, data)
    try:
        read = read_examples(file)
    except BadInput as refusal:
        _is_one_line(refusal, file)
        return
    assert any(_said(read, rows) for rows in _rows(ending, data)), f"success from garbage: {data!r}"


def _rows(ending: str, data: bytes) -> Iterable[Rows]:
    if ending in (".csv", ".tsv"):
        return tables(data)
    rows = json_rows(data)
    return [] if rows is None else [rows]


def _said(read: Sequence[Example], rows: Rows) -> bool:
    if len(read) != len(rows):
        return False
    for example, (line, row) in zip(read, rows, strict=True):
        if line and line != example.line:
            return False
        plain = spoken(row)
        contents = [message["content"] for message in example.messages]
        if plain is not None:
            questions, answer = plain
            if (
                example.completion != answer
                or contents[len(contents) - len(questions) :] != questions
            ):
                return False
        elif not set(example.completion.split("\n")) <= _lines_in(row):
            return False
    return True


def conversations(data: bytes) -> None:
    """Conversations are refused, or read as the reference reads them."""
    file = _written(".jsonl", data)
    texts: list[str] = []
    try:
        sessions = read_sessions(file, None, texts.append)
    except BadInput as refusal:
        _is_one_line(refusal, file)
        return
    rows = json_rows(data)
    assert rows is not None, f"success from garbage: {data!r}"
    assert len(sessions) <= len(rows) and all(sessions), "more sessions than conversations"
    known = [_lines_in(row) for _, row in rows]
    place = 0
    for session in sessions:
        lines = {
            line for turn in session for message in turn for line in message["content"].split("\n")
        }
        place = next((at + 1 for at in range(place, len(known)) if lines <= known[at]), 0)
        assert place, f"a session that no conversation holds: {data!r}"


def _lines_in(value: Any) -> set[str]:
    return {line for text in strings_in(value) for line in text.split("\n")}


def _is_one_line(refusal: BadInput, file: Path) -> None:
    assert str(refusal).startswith(str(file)), "a refusal that names no file"
    assert len(str(refusal)) < 2000, "a refusal that nobody reads"


def trace_of_fragments(data: bytes) -> None:
    """`trace` on text that is joined from known fragments."""
    trace(_fragments(data))


def examples_of_fragments(data: bytes) -> None:
    """`examples` on text that is joined from known fragments."""
    _examples(_ENDINGS[data[0] % len(_ENDINGS)] if data else ".jsonl", _fragments(data[1:]))


def conversations_of_fragments(data: bytes) -> None:
    """`conversations` on text joined from known fragments."""
    conversations(_fragments(data))


DATA_TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        trace,
        trace_of_fragments,
        examples,
        examples_of_fragments,
        conversations,
        conversations_of_fragments,
    )
}
