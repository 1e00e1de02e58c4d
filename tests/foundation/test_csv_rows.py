"""Tables: what the csv module writes comes back, whatever separates its columns."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.data.csv_rows import csv_rows
from foundation.errors import BadInput

CELL = st.text(st.characters(exclude_categories=["Cs"]))
NAMES = st.lists(st.text("abcdef", min_size=1), min_size=1, max_size=4, unique=True)


def written(rows: list[list[str]], separator: str, quoting: int) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=separator, quoting=quoting).writerows(rows)
    return out.getvalue()


@given(
    st.data(), NAMES, st.sampled_from(",;\t"), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
)
def test_any_table_comes_back(
    data: st.DataObject, names: list[str], separator: str, quoting: int
) -> None:
    row = st.lists(CELL, min_size=len(names), max_size=len(names)).filter(
        lambda cells: "".join(cells).strip()
    )
    rows = data.draw(st.lists(row, max_size=4))
    file = Path("d.tsv") if separator == "\t" else Path("d.csv")
    parsed = list(csv_rows(file, written([names, *rows], separator, quoting)))
    assert [cells for _, cells in parsed] == [
        dict(zip(names, cells, strict=True)) for cells in rows
    ]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_header_tells_the_separator_and_texts_may_hold_the_others(separator: str) -> None:
    text = f'prompt{separator}"completion, in words; or not"\n"a,b;c\td"{separator}x\n'
    [(line, row)] = csv_rows(Path("d.csv"), text)
    assert (line, row) == (2, {"prompt": "a,b;c\td", "completion, in words; or not": "x"})


def test_the_empty_columns_that_a_spreadsheet_leaves_are_left_out() -> None:
    text = "prompt,completion,,\na,b,,\nc,d, ,\n"
    assert list(csv_rows(Path("d.csv"), text)) == [
        (2, {"prompt": "a", "completion": "b"}),
        (3, {"prompt": "c", "completion": "d"}),
    ]


def test_a_cell_may_be_longer_than_the_csv_module_allows() -> None:
    [(_, row)] = csv_rows(Path("d.csv"), "prompt,completion\n" + "word " * 100_000 + ",x\n")
    assert len(row["prompt"]) == 500_000


def test_blank_lines_and_spaces_round_a_name_are_passed_over() -> None:
    text = "\n".join(["prompt, completion", "a b,login", "", "c d,refund", "", " ,", ",,,", " "])
    assert list(csv_rows(Path("d.csv"), text)) == [
        (2, {"prompt": "a b", "completion": "login"}),
        (4, {"prompt": "c d", "completion": "refund"}),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prompt;completion,label\na;b,c\n", "d.csv:1: the header holds commas and semicolons"),
        ("prompt,prompt\na,b\n", "d.csv:1: two columns are named 'prompt'"),
        ("prompt,\na,\nb,c\n", "d.csv:3: the header has no name for the column of 'c'"),
        (
            "prompt;completion\na;b\na;b;c\n",
            "d.csv:3: not the 2 columns of the header; quote texts that hold semicolons",
        ),
        ("prompt,completion\na\n", "d.csv:2: not the 2 columns"),
        ('prompt,completion\n"a" b,c\n', "d.csv:2: not CSV"),
        ('prompt,completion\n"a,b\nc', "d.csv:3: not CSV"),
    ],
)
def test_what_is_no_table_is_named_by_its_line(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        list(csv_rows(Path("d.csv"), text))


@given(st.text(st.sampled_from('",;\t\r\nab\0'), max_size=30))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        list(csv_rows(Path("d.csv"), text))
    except BadInput as error:
        assert str(error).startswith("d.csv:")
