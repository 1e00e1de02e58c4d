"""Reads rows from JSON, CSV and Parquet files, and from data sets of the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from foundation.data.csv_rows import csv_rows
from foundation.data.json_rows import Row, json_rows
from foundation.errors import BadInput
from foundation.files.text_file import GIT_LFS_POINTER, read_text

HUB = "hub:"
_HUB_NAME = re.compile(
    r"(?P<id>[\w.-]+/[\w.-]+)(/(?P<config>[\w.-]+))?(@(?P<revision>[\w./-]+))?:(?P<split>.+)"
)


def read_rows(
    source: Path | str, encoding: str | None = None, *, key: str | None = "data.encoding"
) -> Iterator[Row]:
    """Rows of a file or of `hub:ORG/NAME:SPLIT`.

    `.csv`, `.tsv` and `.parquet` are tables. Any other file is JSON: one object a line, or a list.
    `encoding`: a text file's encoding. `key`: the setting that names it, for errors.
    Raises BadInput that names file and line.
    """
    if isinstance(source, str) and source.startswith(HUB):
        return hub_rows(source)
    file = Path(source)
    ending = file.suffix.lower()
    if ending == ".parquet":
        return parquet_rows(file)
    return (csv_rows if ending in (".csv", ".tsv") else json_rows)(
        file, read_text(file, encoding, key=key)
    )


def parquet_rows(file: Path) -> Iterator[Row]:
    """Rows of a Parquet file, numbered from 1. Raises BadInput for any other file."""
    import pyarrow
    import pyarrow.parquet

    if not file.is_file():
        raise BadInput(
            f"{file}: {'a folder; name a file in it' if file.is_dir() else 'no such file'}"
        )
    with file.open("rb") as opened:
        if opened.read(len(GIT_LFS_POINTER)) == GIT_LFS_POINTER:
            raise BadInput(f"{file}: what Git LFS leaves in a file's place; run git lfs pull there")
    try:
        table = pyarrow.parquet.read_table(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInput(
            f"{file}: not a Parquet file ({str(error).strip().splitlines()[0]})"
        ) from None
    yield from enumerate(table.to_pylist(), start=1)


def hub_rows(name: str) -> Iterator[Row]:
    """Rows of `hub:ORG/NAME[/CONFIG][@REVISION]:SPLIT`, from the local cache if it has them.

    SPLIT is in the notation of `datasets`: `train`, `test[:500]`. Class labels become their names.
    Raises BadInput for a data set that is not available.
    """
    parts = _HUB_NAME.fullmatch(name.removeprefix(HUB))
    if parts is None:
        raise BadInput(
            f"{name}: write {HUB}ORG/NAME:SPLIT, such as {HUB}stanfordnlp/imdb:train, "
            "with /CONFIG or @REVISION after NAME"
        )
    import datasets

    try:
        data = datasets.load_dataset(
            parts["id"], parts["config"], split=parts["split"], revision=parts["revision"]
        )
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BadInput(
            f"{name}: not in the local hub cache, and not to be had from the hub ({reason})"
        ) from None
    labels = {
        column: feature
        for column, feature in data.features.items()
        if isinstance(feature, datasets.ClassLabel)
    }
    for number, row in enumerate(data, start=1):
        names = {
            column: feature.int2str(row[column])
            for column, feature in labels.items()
            if row[column] is not None
        }
        yield number, row | names
