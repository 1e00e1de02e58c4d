"""Reads CSV tables (RFC 4180) with commas, semicolons or tabs; line 1 names the columns."""

from __future__ import annotations

import csv
import io
import re
import reprlib
from collections.abc import Iterator
from pathlib import Path

from foundation.data.json_rows import Row
from foundation.errors import BadInput

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_LONGEST_CELL = 2**31 - 1
"""Characters; the standard library's own limit is 131,072."""


def csv_rows(file: Path, text: str) -> Iterator[Row]:
    """Each row by column, all cells as text, with the line on which it ends.

    Skips rows of empty cells. A `.tsv` file has tabs; other files have the one separator that the
    header holds outside quotes. Leaves out columns without a name, which a comma at each line's
    end makes. Raises BadInput for a header with two separators or a repeated column. Likewise for
    a row of another length than the header, and for a text in a column without a name.
    """
    csv.field_size_limit(_LONGEST_CELL)
    separator = "\t" if file.suffix.lower() == ".tsv" else _separator(file, text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if twice := [name for name in header if name and header.count(name) > 1]:
            raise BadInput(f"{file}:1: two columns are named {twice[0]!r}; give each its own name")
        for cells in reader:
            if not "".join(cells).strip():
                continue  # spreadsheets leave blank lines and rows of empty cells
            if len(cells) != len(header):
                raise BadInput(
                    f"{file}:{reader.line_num}: not the {len(header)} columns of the header; "
                    f"quote texts that hold {_SEPARATORS[separator]}"
                )
            row = list(zip(header, cells, strict=True))
            if unnamed := [cell for name, cell in row if not name and cell.strip()]:
                raise BadInput(
                    f"{file}:{reader.line_num}: the header has no name for the column of "
                    f"{reprlib.repr(unnamed[0])}; write one"
                )
            yield reader.line_num, {name: cell for name, cell in row if name}
    except csv.Error as error:
        raise BadInput(f"{file}:{reader.line_num}: not CSV ({error})") from None


def _separator(file: Path, text: str) -> str:
    header = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    unquoted = re.sub(r'"[^"]*"', "", header)
    present = [separator for separator in _SEPARATORS if separator in unquoted]
    if len(present) > 1:
        names = " and ".join(_SEPARATORS[separator] for separator in present)
        raise BadInput(
            f"{file}:1: the header holds {names}, so what separates columns is not clear; "
            "quote its names"
        )
    return present[0] if present else ","
