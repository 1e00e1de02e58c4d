"""Reads recorded traffic: times, lengths of prompts and answers, shared prompt blocks, and
prompts.

Known formats, by their names:

- Azure's LLM inference traces (CSV: TIMESTAMP, ContextTokens, GeneratedTokens) and BurstGPT (CSV:
Timestamp in seconds, Request tokens, Response tokens); - Mooncake (JSON lines: timestamp in ms,
input_length, output_length, hash_ids), with AIPerf's additions: `text_input` is the prompt itself,
lines of one `session_id` are the turns of a session, `delay` ms after the answer before them; -
Alibaba's Bailian (the same names and a chat_id: timestamp in seconds, blocks of 16 tokens); - our
own JSON lines, `{"at": seconds, "input_tokens", "output_tokens", "hash_ids"}`, where only `at` is
required.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foundation.data.csv_rows import csv_rows
from foundation.data.json_rows import JsonNumber, json_rows
from foundation.errors import BadInput
from foundation.files.text_file import read_text
from foundation.run.records import MOST_TOKENS
from loadgen.dataset_config import Recording

_FORMATS = (
    "an Azure (TIMESTAMP) or BurstGPT (Timestamp, Request tokens) CSV, "
    'Mooncake JSON lines (timestamp, input_length) or {"at": seconds}'
)
# The year 11476: a later time was not written in the unit of its format.
_LATEST_S = 3e11
_LARGEST = 1e15
_WHOLE = re.compile(r"\d{1,40}", re.ASCII)
_DECIMAL = re.compile(r"\d+(\.\d*)?([eE][+-]?\d+)?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d+)?)?(Z|[+-]\d\d:?\d\d)?", re.ASCII)


class _Format(NamedTuple):
    """The names of a format's fields: the time, in units of 1/`per_second` s, and the lengths.

    `block`: the tokens in each prompt block that a hash names. The last block may have fewer.
    """

    at: str
    input_tokens: str
    output_tokens: str
    per_second: int = 1
    block: int = 512


_AZURE = _Format("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_BURSTGPT = _Format("Timestamp", "Request tokens", "Response tokens")
_MOONCAKE = _Format("timestamp", "input_length", "output_length", per_second=1000)
_BAILIAN = _Format("timestamp", "input_length", "output_length", block=16)
_OURS = _Format("at", "input_tokens", "output_tokens")


class Turn(NamedTuple):
    """One request of a trace.

    `line`: its line. `at`: seconds on the file's own clock. `delay`: seconds after the answer
    before it. A turn of a session has one of the two, or both, or is sent right after the answer.
    `hash_ids` are equal where the prompts' blocks of `block` tokens are equal. `text`: the prompt
    itself. `is_empty`: it has zero tokens of a prompt or an answer, and a load asks for 1 instead.
    """

    line: int
    at: float | None = None
    delay: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    hash_ids: tuple[int, ...] = ()
    block: int = 512
    text: str | None = None
    is_empty: bool = False


class Arrival(NamedTuple):
    """A request or a session of several turns. It begins `at` seconds on the file's own clock."""

    at: float
    first: Turn
    then: tuple[Turn, ...] = ()

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All its turns in order."""
        return (self.first, *self.then)


def arrivals_in(recording: Recording) -> list[Arrival]:
    """The arrivals of a trace from `offset` on, for `length` seconds. Raises BadInput with file and
    line.
    """
    arrivals = read_trace(recording.file)
    begin, end = _bounds(recording, arrivals[0].at)
    kept = [each for each in arrivals if begin <= each.at < end]
    if not kept:
        recorded = arrivals[-1].at - arrivals[0].at
        raise BadInput(
            f"{recording.file}: no arrival in {recording.span}; "
            f"the recording is {recorded:g} s long"
        )
    return kept


def arrival_seconds(recording: Recording) -> NDArray[np.float64]:
    """The arrivals of a trace in seconds after `offset`, sorted; without an offset, after the
    first.

    Raises BadInput with file and line.
    """
    begin, _ = _bounds(recording, read_trace(recording.file)[0].at)
    times = np.fromiter((arrival.at for arrival in arrivals_in(recording)), np.float64)
    since: NDArray[np.float64] = times - begin
    return since


def recorded_seconds(recording: Recording) -> float:
    """The length of the part of a trace, up to the file's last arrival at most."""
    arrivals = read_trace(recording.file)
    begin, end = _bounds(recording, arrivals[0].at)
    return min(arrivals[-1].at, end) - begin


def _bounds(recording: Recording, first: float) -> tuple[float, float]:
    begin = first + recording.offset
    return begin, math.inf if recording.length is None else begin + recording.length


@lru_cache(maxsize=2)
def read_trace(file: Path) -> list[Arrival]:
    """The arrivals of a trace. Raises BadInput with file and line."""
    text = read_text(file, key=None)
    turns = (
        _json_turns(file, text) if text.lstrip().startswith(("{", "[")) else _csv_turns(file, text)
    )
    arrivals = _arrivals(file, turns)
    if not arrivals:
        raise BadInput(f"{file}: no arrivals; write {_FORMATS}")
    return arrivals


def _arrivals(file: Path, turns: Iterator[tuple[str | None, Turn]]) -> list[Arrival]:
    """The turns grouped by session. Arrivals, and the turns of a session, must be in order of
    time.
    """
    arrivals: list[Arrival] = []
    sessions: dict[str, tuple[int, list[Turn]]] = {}
    for session, turn in turns:
        if session is not None and session in sessions:
            earlier = sessions[session][1]
            last = next(each for each in reversed(earlier) if each.at is not None)
            _check_order(file, last, turn)
            earlier.append(turn)
            continue
        if turn.at is None:
            raise BadInput(
                f"{file}:{turn.line}: a session's first line needs its time; write {_FORMATS}"
            )
        if arrivals:
            _check_order(file, arrivals[-1].first, turn)
        if session is not None:
            sessions[session] = len(arrivals), [turn]
        arrivals.append(Arrival(turn.at, turn))
    for place, (_, *then) in sessions.values():
        arrivals[place] = arrivals[place]._replace(then=tuple(then))
    return arrivals


def _check_order(file: Path, earlier: Turn, turn: Turn) -> None:
    if earlier.at is not None and turn.at is not None and turn.at < earlier.at:
        raise BadInput(
            f"{file}:{turn.line}: a time {earlier.at - turn.at:g} s before that of line "
            f"{earlier.line}; sort the lines by time"
        )


def _csv_turns(file: Path, text: str) -> Iterator[tuple[None, Turn]]:
    for line, row in csv_rows(file, text):
        if "TIMESTAMP" in row:
            format_ = _AZURE
        elif {"Timestamp", "Request tokens"} <= row.keys():
            format_ = _BURSTGPT
        else:
            raise BadInput(f"{file}:1: columns {', '.join(row)[:200]}; write {_FORMATS}")
        where = f"{file}:{line}"
        at = (_date if format_ is _AZURE else _seconds)(where, format_.at, row[format_.at])
        yield None, _turn(where, line, row, format_, at, None)


def _json_turns(file: Path, text: str) -> Iterator[tuple[str | None, Turn]]:
    for line, row in json_rows(file, text):
        where = f"{file}:{line}"
        format_ = _OURS if "at" in row else _BAILIAN if "chat_id" in row else _MOONCAKE
        session = row.get("session_id")
        if session is not None and not isinstance(session, str | JsonNumber):
            raise BadInput(
                f"{where}: session_id: write a text or a number, not {str(session)[:60]}"
            )
        if row.get(format_.at) is None and session is None:
            raise BadInput(
                f"{where}: no arrival among {', '.join(row)[:60] or 'nothing'}; write {_FORMATS}"
            )
        at, delay = (
            None if row.get(name) is None else _seconds(where, name, row[name], format_.per_second)
            for name in (format_.at, "delay")
        )
        yield None if session is None else str(session), _turn(where, line, row, format_, at, delay)


def _turn(
    where: str,
    line: int,
    row: Mapping[str, Any],
    format_: _Format,
    at: float | None,
    delay: float | None,
) -> Turn:
    hashes = [] if row.get("hash_ids") is None else row["hash_ids"]
    if not isinstance(hashes, list) or not all(
        isinstance(each, JsonNumber) and _WHOLE.fullmatch(each.text) for each in hashes
    ):
        raise BadInput(f"{where}: hash_ids: write whole numbers in a list, not {str(hashes)[:60]}")
    input_tokens, output_tokens = (
        _tokens(where, row, name) for name in (format_.input_tokens, format_.output_tokens)
    )
    text = row.get("text_input", row.get("input_text"))
    if text is not None and not (isinstance(text, str) and text.strip()):
        raise BadInput(
            f"{where}: text_input: write a text that is not empty, not {str(text)[:60]!r}"
        )
    # A text is not built from the blocks, so it shares none.
    blocks = tuple(int(each.text) for each in hashes) if text is None else ()
    counts = (row.get(name) for name in (format_.input_tokens, format_.output_tokens))
    is_empty = any(count is not None and _number(count) == 0 for count in counts)
    return Turn(line, at, delay, input_tokens, output_tokens, blocks, format_.block, text, is_empty)


def _date(where: str, name: str, text: str) -> float:
    """Seconds since 1970.

    A time without a zone is UTC, so a change to summer time makes no gap and no repeated hour.
    """
    try:
        date = datetime.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        date = None
    if date is None:
        raise BadInput(
            f"{where}: {name}: {text[:60]!r} is no time; write such as 2023-11-16 18:17:03.979"
        )
    moment = date if date.tzinfo else date.replace(tzinfo=UTC)
    return _checked(where, name, text, moment.timestamp())


def _seconds(where: str, name: str, value: object, per_second: int = 1) -> float:
    """A number of units, as seconds."""
    number = _number(value)
    if number is None:
        raise BadInput(
            f"{where}: {name}: {str(value)[:60]!r} is no time; write a number, zero or more"
        )
    return _checked(where, name, value, number / per_second)


def _checked(where: str, name: str, value: object, seconds: float) -> float:
    if not 0 <= seconds < _LATEST_S:
        raise BadInput(f"{where}: {name}: {str(value)[:60]!r} is no time that can be replayed")
    return seconds


def _tokens(where: str, row: Mapping[str, Any], name: str) -> int | None:
    """A count of tokens, None where the line has none.

    BurstGPT has 0 for a request that failed. The load asks for 1 token instead.
    """
    value = row.get(name)
    if value is None or value == "":
        return None
    number = _number(value)
    if number is None or number > MOST_TOKENS or number != int(number):
        raise BadInput(
            f"{where}: {name}: {str(value)[:60]!r} is no number of tokens; "
            "write a whole one, zero or more"
        )
    return max(1, int(number))


def _number(value: object) -> float | None:
    """A finite number, zero or more, as JSON or a CSV cell writes it, else None."""
    if isinstance(value, str):
        text = value.strip(" \t")
        number = float(text) if _DECIMAL.fullmatch(text) else math.inf
    elif isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LARGEST:
        number = float(value)
    else:
        return None
    return number if number < _LARGEST else None
