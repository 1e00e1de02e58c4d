"""Rows of a table written with commas, semicolons or tabs (CSV, RFC 4180), the first line naming the columns."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from foundation.data.json_rows import Row
from foundation.errors import BadInput

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_LONGEST_CELL = 2**31 - 1
"""Characters; the standard library's own limit is 131,072."""


def csv_rows(file: Path, text: str) -> Iterator[Row]:
    """Each row by column, all cells as text, with the line on which it ends. Rows of empty cells are passed over.

    A `.tsv` file has tabs; for others, the one separator that the header holds outside quotes counts.
    Raises BadInput for a header that holds two of them or names a column twice, and for a row of
    another length than it.
    """
    csv.field_size_limit(_LONGEST_CELL)
    separator = "\t" if file.suffix.lower() == ".tsv" else _separator(file, text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if twice := [name for name in header if header.count(name) > 1]:
            raise BadInput(f"{file}:1: two columns are named {twice[0]!r}; give each its own name")
        for cells in reader:
            if not "".join(cells).strip():
                continue  # a blank line, or one of empty cells, as spreadsheets leave behind
            if len(cells) != len(header):
                raise BadInput(
                    f"{file}:{reader.line_num}: not the {len(header)} columns of the header; "
                    f"quote texts that hold {_SEPARATORS[separator]}"
                )
            yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise BadInput(f"{file}:{reader.line_num}: not CSV ({error})") from None


def _separator(file: Path, text: str) -> str:
    header = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    unquoted = re.sub(r'"[^"]*"', "", header)
    present = [separator for separator in _SEPARATORS if separator in unquoted]
    if len(present) > 1:
        names = " and ".join(_SEPARATORS[separator] for separator in present)
        raise BadInput(
            f"{file}:1: the header holds {names}, so what separates columns is not clear; quote its names"
        )
    return present[0] if present else ","
