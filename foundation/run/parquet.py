"""Writes journals as Parquet.

A row is a request: every field of its record, with its variant, stage and block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import inspect

from foundation.files.atomic_write import whole_file
from foundation.run.journal import read_journals
from foundation.run.parsing import BY_CHUNK, KEPT_AS_TEXT, Batch
from foundation.run.records import JournalHeader, RequestRecord

_NULL = b"null"
_ALL_DIFFERENT = ("text", *KEPT_AS_TEXT)
_BLOCK_COLUMNS = ("variant", "stage", "block", "offered_rate")


def write_parquet(directory: Path, out: Path) -> Path:
    """Writes every journal below `directory` as one Parquet file, in the order of its lines.

    Returns `out`.
    """
    with parquet_writer(out) as write:
        read_journals(directory, write)
    return out


@contextmanager
def parquet_writer(out: Path) -> Iterator[Callable[[JournalHeader, Batch], None]]:
    """A function that writes batches of records to `out` as they are read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = _kinds()
    schema = pa.schema(list(kinds.items()))
    words = [
        name for name, kind in kinds.items() if kind == pa.string() and name not in _ALL_DIFFERENT
    ]
    numbers = {f"{name}.list.element": "DELTA_BINARY_PACKED" for name in BY_CHUNK}
    # The journals hold everything, so this file need not be forced to the disk.
    with (
        whole_file(out, durable=False) as place,
        pq.ParquetWriter(
            place, schema, compression="zstd", use_dictionary=words, column_encoding=numbers
        ) as writer,
    ):

        def write(header: JournalHeader, batch: Batch) -> None:
            columns = [
                pa.array([getattr(header, name)] * len(batch), kinds[name])
                for name in _BLOCK_COLUMNS
            ]
            columns += [
                _column(batch, name, kinds[name]) for name in RequestRecord.__struct_fields__
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))

        yield write


def _kinds() -> dict[str, Any]:
    """The Arrow type of every column, from the types of headers and records.

    A field without an Arrow type of its own is JSON text.
    """
    import pyarrow as pa

    def kind(of: inspect.Type) -> Any:
        if isinstance(of, inspect.UnionType):
            return kind(next(one for one in of.types if not isinstance(one, inspect.NoneType)))
        if isinstance(of, inspect.ListType):
            return pa.list_(kind(of.item_type))
        return {inspect.IntType: pa.int64(), inspect.FloatType: pa.float64()}.get(
            type(of), pa.string()
        )

    header, record = (
        {field.name: field.type for field in _fields(of)} for of in (JournalHeader, RequestRecord)
    )
    return {
        name: kind(of)
        for name, of in ({name: header[name] for name in _BLOCK_COLUMNS} | record).items()
    }


def _fields(type_: type[msgspec.Struct]) -> Sequence[inspect.Field]:
    known = inspect.type_info(type_)
    assert isinstance(known, inspect.StructType)
    return known.fields


def _column(batch: Batch, name: str, kind: Any) -> Any:
    import pyarrow as pa

    if name in BY_CHUNK:
        numbers = batch.numbers[name]
        ends = np.append(0, np.cumsum(np.maximum(numbers.counts, 0)))
        missing = pa.array(numbers.counts < 0)
        return pa.ListArray.from_arrays(
            pa.array(ends, pa.int32()), pa.array(numbers.values), kind, mask=missing
        )
    values = batch.columns[name]
    if name in KEPT_AS_TEXT:
        values = [
            None if bytes(value) == _NULL else bytes(value).decode(errors="replace")
            for value in values
        ]
    return pa.array(values, kind)
