"""JSON lines and JSON lists: what json.dumps writes comes back, with the line it stands on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.data.json_rows import JsonNumber, json_rows, plain
from foundation.errors import BadInput

FILE = Path("d.jsonl")
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ROWS = st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=5)


def read(text: str) -> list[tuple[int, Any]]:
    return [(line, plain(row)) for line, row in json_rows(FILE, text)]


@given(
    ROWS,
    st.booleans(),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["", "\n", "\n\n \n"]),
)
def test_lines_come_back_however_they_end(
    rows: list[dict[str, Any]], ascii_only: bool, end: str, tail: str
) -> None:
    rows = json.loads(json.dumps(rows))  # a half character that is its own
    if any("\\ud" in json.dumps(row) for row in rows):
        return
    text = "".join(json.dumps(row, ensure_ascii=ascii_only) + end for row in rows) + tail.replace(
        "\n", end
    )
    assert read(text) == list(enumerate(rows, start=1))


@given(ROWS, st.sampled_from([None, 0, 2]))
def test_a_list_gives_the_same_rows_and_the_lines_they_begin_on(
    rows: list[dict[str, Any]], indent: int | None
) -> None:
    text = "\n" + json.dumps(rows, indent=indent, ensure_ascii=False)
    if "\\ud" in json.dumps(rows):
        return
    parsed = read(text)
    assert [row for _, row in parsed] == rows
    if indent is None:
        assert [number for number, _ in parsed] == list(range(1, len(rows) + 1))
    for line, row in parsed if indent is not None else ():
        rest = "\n".join(text.split("\n")[line - 1 :]).lstrip("[ \n")
        assert json.JSONDecoder().raw_decode(rest)[0] == row


def test_separators_of_unicode_do_not_end_a_line() -> None:
    rows = [{"a": f"one{chr(code)}two"} for code in (0x2028, 0x2029, 0x85, 0x0B, 0x0C, 0x1C)]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    assert read(text) == list(enumerate(rows, start=1))


def test_numbers_stay_as_they_are_written() -> None:
    [(_, row)] = json_rows(FILE, '{"a": 1.0, "b": -0, "c": 1e3, "d": 1' + "0" * 5000 + "}")
    assert [str(row[key])[:9] for key in "abcd"] == ["1.0", "-0", "1e3", "100000000"]
    assert isinstance(row["a"], JsonNumber) and row["a"] == 1 and row["c"] / 2 == 500


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1}\n{', "d.jsonl:2: not JSON"),
        ('{"a": 1}\n\n{"a": 1}', "d.jsonl:2: empty line"),
        ('{"a": 1}\n[1]', "d.jsonl:2: not a JSON object, but a list"),
        ('{"a": 1}\nNaN', "d.jsonl:2: not a JSON object, but a number"),
        ('{"a": 1} {"a": 2}', "d.jsonl:1: not JSON .more text behind its end, at column 10"),
        ('{\n "a": 1}', "d.jsonl:1: one JSON object over several lines"),
        ('[{"a": 1},\n {"a": }]', "d.jsonl:2: not JSON"),
        ('[{"a": 1},\n{"a": 1}\n', "d.jsonl:2: not JSON .the list has no end"),
        ('[{"a": 1}\n{"a": 1}]', "d.jsonl:1: not JSON .no comma"),
        ('[{"a": 1},]', "d.jsonl:1: not JSON"),
        ("[", "d.jsonl:1: not JSON"),
        ('[{"a": 1},\n7]', "d.jsonl:2: not a JSON object, but a number"),
        ('[{"a": 1}, {"a": 1}, 7]', "d.jsonl:3: not a JSON object, but a number"),
        ('[{"a": 1}]\n{"a": 1}', "d.jsonl:2: text behind the end of the list"),
        ('{"a": 1, "b": 2, "a": 3}', "d.jsonl:1: the key 'a' stands twice"),
        ('{"a": "x"}\n{"a": ["\\ud83d"]}', r"d.jsonl:2: half a character .'\\ud83d'"),
        ("[" * 100_000 + "]" * 100_000, "d.jsonl:1: nested too deep"),
        ('{"a": ' * 100_000 + "1" + "}" * 100_000, "d.jsonl:1: nested too deep"),
        ('{"a": 1}\n' + '{"a": "' + "x" * 30_000_000, "d.jsonl:2: not JSON .Unterminated string"),
    ],
)
def test_what_is_no_row_is_named_in_one_short_line(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as error:
        list(json_rows(FILE, text))
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


@given(st.text(st.sampled_from('[]{}",:\\ud8 \n1eN'), max_size=40))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        rows = [row for _, row in json_rows(FILE, text)]
    except BadInput as error:
        assert str(error).startswith("d.jsonl:")
    else:
        assert all(isinstance(row, dict) for row in rows)
