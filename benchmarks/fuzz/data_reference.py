"""A second reader of data files and traces: the standard library's json and csv on whole files.

It shares no code with the product. Each function returns None for a file of another format.
"""

from __future__ import annotations

import calendar
import csv
import io
import json
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

Rows = list[tuple[int, dict[str, Any]]]
"""Lines (from 1) and what stands there; numbers as the text they are written in."""

_NUMBER = re.compile(r"-?\d+(\.\d*)?([eE][+-]?\d+)?", re.ASCII)
_DATE = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?"
    r"(?:(Z)|([+-])(\d\d):?(\d\d))?",
    re.ASCII,
)
_SEPARATORS = (",", ";", "\t")


def text_of(raw: bytes) -> str | None:
    """The text of a data file, or None if it is not UTF-8."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def json_rows(raw: bytes) -> Rows | None:
    """Of JSON lines, or of a list, whose lines are not told (0)."""
    text = text_of(raw)
    if text is None:
        return None
    if text.lstrip(" \t\r\n").startswith("["):
        listed = _json(text)
        rows = [(0, each) for each in listed] if isinstance(listed, list) else None
    else:
        lines = re.split(r"\r\n|\n|\r", text.rstrip(" \t\r\n"))
        rows = [(number, _json(line)) for number, line in enumerate(lines, start=1)]
    return rows if rows is not None and all(isinstance(row, dict) for _, row in rows) else None


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_int=_Written, parse_float=_Written)
    except (ValueError, RecursionError):
        return None


class _Written(str):
    """A number, as its text."""


def tables(raw: bytes) -> Iterator[Rows]:
    """The rows of a table by each separator. Quoted cells may hold line ends."""
    text = text_of(raw)
    for separator in _SEPARATORS if text is not None else ():
        try:
            header, *rows = (
                row
                for row in csv.reader(
                    io.StringIO(text, newline=""), delimiter=separator, strict=True
                )
            )
        except (csv.Error, ValueError):
            continue
        names = [name.strip() for name in header]
        cells = [row for row in rows if "".join(row).strip()]
        named = [name for name in names if name]
        if len(set(named)) == len(named) and all(len(row) == len(names) for row in cells):
            pairs = [list(zip(names, row, strict=True)) for row in cells]
            if not any(cell.strip() for row in pairs for name, cell in row if not name):
                yield [(0, {name: cell for name, cell in row if name}) for row in pairs]


class Request(NamedTuple):
    """One request of a trace."""

    input_tokens: int | None
    output_tokens: int | None
    hash_ids: tuple[int, ...]
    text: str | None


def traces(raw: bytes) -> Iterator[list[tuple[float, list[Request]]]]:
    """The arrivals of a trace and their requests, as any of the formats would have it."""
    rows = json_rows(raw)
    readings = [] if rows is None else [rows]
    for table in (*readings, *tables(raw)):
        try:
            yield _arrivals(table)
        except (ValueError, KeyError, TypeError, InvalidOperation, OverflowError):
            continue


def _arrivals(rows: Rows) -> list[tuple[float, list[Request]]]:
    arrivals: list[tuple[float, list[Request]]] = []
    sessions: dict[str, list[Request]] = {}
    latest = 0.0
    for _, row in rows:
        session = row.get("session_id")
        at, names = _time(row)
        text = row.get("text_input", row.get("input_text"))
        hashes = tuple(map(_whole, row.get("hash_ids") or [])) if text is None else ()
        request = Request(*(_tokens(row.get(name)) for name in names), hashes, text)
        if session is not None and str(session) in sessions:
            sessions[str(session)].append(request)
            continue
        if at is None or at < latest:
            raise ValueError("no time, or one before the last")
        latest = at
        arrivals.append((at, [request]))
        if session is not None:
            sessions[str(session)] = arrivals[-1][1]
    if not arrivals:
        raise ValueError("no arrivals")
    return arrivals


def _time(row: dict[str, Any]) -> tuple[float | None, tuple[str, str]]:
    """Seconds, and the names of the lengths."""
    if "TIMESTAMP" in row:
        return _moment(row["TIMESTAMP"]), ("ContextTokens", "GeneratedTokens")
    if "Timestamp" in row:
        return float(_decimal(row["Timestamp"])), ("Request tokens", "Response tokens")
    if "at" in row:
        return None if row["at"] is None else float(_decimal(row["at"])), (
            "input_tokens",
            "output_tokens",
        )
    at = row.get("timestamp")
    unit = 1 if "chat_id" in row else 1000
    return None if at is None else float(_decimal(at) / unit), ("input_length", "output_length")


def _moment(text: str) -> float:
    parts = _DATE.fullmatch(text)
    if parts is None:
        raise ValueError(text)
    year, month, day, hour, minute, second = (int(part or 0) for part in parts.groups()[:6])
    if not (
        1 <= month <= 12
        and 1 <= day <= calendar.monthrange(year, month)[1]
        and hour < 24
        and minute < 60
        and second < 60
    ):
        raise ValueError(text)
    east = (
        0
        if parts[9] is None
        else (int(parts[10]) * 3600 + int(parts[11]) * 60) * (1 if parts[9] == "+" else -1)
    )
    whole = calendar.timegm((year, month, day, hour, minute, second)) - east
    return whole + float(f"0.{parts[7] or 0}")


def _decimal(value: Any) -> Decimal:
    if not isinstance(value, str) or not _NUMBER.fullmatch(value.strip()):
        raise ValueError(f"{value!r} is no number")
    number = Decimal(value.strip())
    if number < 0:  # -0 is zero
        raise ValueError(f"{value!r} is below zero")
    return number


def _tokens(value: Any) -> int | None:
    if value is None or value == "":
        return None
    number = _decimal(value)
    if float(number) != int(float(number)):
        raise ValueError("no whole number")
    return max(1, int(float(number)))


def _whole(value: Any) -> int:
    if not isinstance(value, _Written):
        raise TypeError("no number")
    return int(value)


def spoken(row: dict[str, Any]) -> tuple[list[str], str] | None:
    """The text of an example up to the answer, and the answer, if all of it is plain text."""
    for key in ("messages", "conversations"):
        if row.get(key) is not None:
            return _texts(row[key])
    if isinstance(row.get("prompt"), str) and "completion" in row:
        return [row["prompt"]], _answer(row["completion"])
    if isinstance(row.get("instruction"), str) and "output" in row:
        more = row.get("input")
        question = (
            f"{row['instruction']}\n\n{more}"
            if isinstance(more, str) and more.strip()
            else row["instruction"]
        )
        return [question], _answer(row["output"])
    return None


def _texts(messages: Any) -> tuple[list[str], str] | None:
    texts = [
        m.get("content", m.get("value")) if isinstance(m, dict) else None for m in _list(messages)
    ]
    if not texts or not all(isinstance(text, str) for text in texts):
        return None
    return texts[:-1], texts[-1]


def _list(value: Any) -> list[Any]:
    """A list, or one written as JSON into a cell."""
    if isinstance(value, str):
        value = _json(value)
    return value if isinstance(value, list) else []


def _answer(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else ""


def strings_in(value: Any) -> Iterator[str]:
    """Every text in a parsed JSON value, those of texts that are JSON themselves included."""
    if isinstance(value, str):
        yield value
        parsed = _json(value) if value.lstrip().startswith(("[", "{")) else None
        yield from () if parsed is None else strings_in(parsed)
    elif isinstance(value, dict):
        for each in value.values():
            yield from strings_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings_in(each)
