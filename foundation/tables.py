"""Rows from where examples are kept besides JSON lines: CSV, Parquet, and data sets of the Hugging Face hub."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foundation.errors import BadInput

HUB = "hub:"
_HUB_NAME = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(/(?P<config>[\w.-]+))?(@(?P<revision>[\w./-]+))?:(?P<split>.+)")

Row = tuple[int, dict[str, Any]]
"""The line (CSV) or row (from 1), and its columns."""


def csv_rows(file: Path) -> Iterator[Row]:
    """Rows of a CSV file with a header. Raises BadInput for a row of another length than it."""
    with file.open(encoding="utf-8-sig", newline="") as text:
        reader = csv.DictReader(text, strict=True)
        try:
            for row in reader:
                if None in row or None in row.values():
                    wanted = len(reader.fieldnames or ())
                    raise BadInput(
                        f"{file}:{reader.line_num}: not the {wanted} columns of the header; quote texts that hold commas"
                    )
                yield reader.line_num, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise BadInput(f"{file}:{reader.line_num}: not CSV in UTF-8 ({error})") from None


def parquet_rows(file: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        yield from enumerate(pyarrow.parquet.read_table(file).to_pylist(), start=1)
    except pyarrow.ArrowInvalid as error:
        raise BadInput(f"{file}: not a Parquet file ({error})") from None


def hub_rows(name: str) -> Iterator[Row]:
    """Rows of `hub:ORG/NAME[/CONFIG][@REVISION]:SPLIT`, from the local cache where it is there; class labels by their names.

    A split is named as `datasets` has it: `train`, `test[:500]`. Raises BadInput where there is no such data set.
    """
    found = _HUB_NAME.fullmatch(name.removeprefix(HUB))
    if found is None:
        raise BadInput(
            f"{name}: write {HUB}ORG/NAME:SPLIT, such as {HUB}stanfordnlp/imdb:train, with /CONFIG or @REVISION after NAME"
        )
    import datasets

    try:
        data = datasets.load_dataset(found["id"], found["config"], split=found["split"], revision=found["revision"])
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BadInput(f"{name}: not in the local hub cache, and not to be had from the hub ({reason})") from None
    labels = {column: feature for column, feature in data.features.items() if isinstance(feature, datasets.ClassLabel)}
    for number, row in enumerate(data, start=1):
        yield (
            number,
            row | {column: feature.int2str(row[column]) for column, feature in labels.items() if row[column] is not None},
        )
