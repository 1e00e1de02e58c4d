"""Reads JSON rows: one object a line, or one list of objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foundation.errors import BadInput

Row = tuple[int, dict[str, Any]]
"""The line in the file (from 1; for Parquet and hub data the row), and its values by key."""

_BLANK = " \t\r\n"
_BLANKS = re.compile(f"[{_BLANK}]*")


class JsonNumber(float):
    """A number with its JSON text: a label 1.0 stays "1.0"."""

    text: str

    def __new__(cls, text: str) -> JsonNumber:
        """The number of a JSON text."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __repr__(self) -> str:
        return self.text


def json_rows(file: Path, text: str) -> Iterator[Row]:
    """The objects of JSON lines or of a JSON list, each with its line. Numbers are `JsonNumber`.

    If a whole list is on one line, the element's number (from 1) replaces the line. Blank lines at
    the end don't count. Raises BadInput with file and line for anything but an object. Likewise for
    a repeated key, a lone surrogate, and nesting too deep to parse.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    rows = _listed(file, text) if text.lstrip(_BLANK).startswith("[") else _lines(file, text)
    for line, value in rows:
        if not isinstance(value, dict):
            raise BadInput(f"{file}:{line}: not a JSON object, but {_kind(value)}")
        yield line, value


def plain(value: Any, deepest: int = 100) -> Any:
    """A parsed JSON value with plain numbers. Raises ValueError for nesting below `deepest`."""
    if isinstance(value, JsonNumber):
        return json.loads(value.text)
    if isinstance(value, dict | list) and deepest == 0:
        raise ValueError("nested too deep to be read")
    if isinstance(value, dict):
        return {key: plain(each, deepest - 1) for key, each in value.items()}
    return [plain(each, deepest - 1) for each in value] if isinstance(value, list) else value


def parse_json(where: str, text: str) -> Any:
    """The value of a JSON text at `where` in a data file. Raises BadInput.

    Numbers are `JsonNumber`.
    """
    try:
        return _whole(text)
    except _NotJson as problem:
        raise BadInput(f"{where}: {problem}") from None


def _lines(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    text = text.rstrip(_BLANK)
    for number, line in enumerate(text.split("\n") if text else [], start=1):
        if not line.strip(_BLANK):
            raise BadInput(f"{file}:{number}: empty line; remove it, or write an example there")
        if number == 1 and line.strip(_BLANK) == "{" and "\n" in text:
            raise BadInput(
                f"{file}:1: one JSON object over several lines; "
                "write one a line, or a list [...] of them"
            )
        yield number, parse_json(f"{file}:{number}", line)


def _listed(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    """The elements of a list with their first lines, or numbers if all are on one line."""
    line, counted, number = 1, 0, 0
    on_one_line = "\n" not in text.strip(_BLANK)
    place = _past_blanks(text, text.index("[") + 1)
    going_on = text[place : place + 1] != "]"
    try:
        while going_on:
            line, counted = line + text.count("\n", counted, place), place
            value, end = _value(text, place)
            number += 1
            yield number if on_one_line else line, value
            place = _past_blanks(text, end)
            going_on = text[place : place + 1] == ","
            if going_on:
                place = _past_blanks(text, place + 1)
        if text[place : place + 1] != "]":
            what = "no comma behind this element" if place < len(text) else "the list has no end"
            raise _NotJson(f"not JSON ({what})", counted)
        if (rest := _past_blanks(text, place + 1)) < len(text):
            raise _NotJson(
                "text behind the end of the list; write one list, or one object a line", rest
            )
    except _NotJson as problem:
        raise BadInput(
            f"{file}:{line + text.count(chr(10), counted, problem.place)}: {problem}"
        ) from None


class _NotJson(ValueError):
    """`place`: the position of the character at which reading ended."""

    def __init__(self, message: str, place: int) -> None:
        super().__init__(message)
        self.place = place


def _whole(text: str) -> Any:
    value, end = _value(text, _past_blanks(text, 0))
    if (rest := _past_blanks(text, end)) < len(text):
        raise _NotJson(f"not JSON (more text behind its end, at column {rest + 1})", rest)
    return value


def _value(text: str, place: int) -> tuple[Any, int]:
    """The value that begins at `place`, and where it ends."""
    try:
        value, end = _DECODER.raw_decode(text, place)
    except RecursionError:
        raise _NotJson("nested too deep to be read", place) from None
    except json.JSONDecodeError as error:
        raise _NotJson(f"not JSON ({error.msg} at column {error.colno})", error.pos) from None
    except ValueError as error:
        raise _NotJson(str(error), place) from None
    if "\\u" in text[place:end] and (half := _half_character(value)):
        raise _NotJson(
            f"half a character ({half!a}), which no text can hold; write both halves", place
        )
    return value, end


def _past_blanks(text: str, place: int) -> int:
    blanks = _BLANKS.match(text, place)
    return blanks.end() if blanks else place


def _half_character(value: Any) -> str | None:
    """A lone surrogate in any string of a parsed value."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        return error.object[error.start]
    except RecursionError:
        return None
    return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {repeated!r} stands twice in one object")
    return keys


_DECODER = json.JSONDecoder(parse_int=JsonNumber, parse_float=JsonNumber, object_pairs_hook=_unique)


def _kind(value: Any) -> str:
    kinds = {
        str: "a text",
        list: "a list",
        bool: "a truth value",
        JsonNumber: "a number",
        float: "a number",
    }
    return kinds.get(type(value), "null")
