"""The file of a variant's telemetry samples: `telemetry/VARIANT.parquet`.

The file's metadata say why the numbers of a source are missing: of the GPUs, of the processor's
energy, of the server's own metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from foundation.files.atomic_write import whole_file
from foundation.run.records import TelemetrySample

_ABSENT = b"absent"
_REQUIRED = ("monotonic_ns", "unix_ns")


def write_samples(
    samples: Sequence[TelemetrySample], file: Path, absent: Mapping[str, str] | None = None
) -> str | None:
    """Writes samples as Parquet, behind those of an earlier session of the run.

    The earlier file may have fewer or more columns. One that can't be read is renamed, and the
    sentence that is returned says so. `absent`: why a source has no numbers, by source.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(list(_kinds().items()))
    rows = [msgspec.structs.asdict(sample) for sample in samples]
    table = pa.Table.from_pylist(rows, schema=schema)
    trouble = None
    if file.exists():
        try:
            earlier = _cast(_read(file), schema)
            table = pa.concat_tables([earlier, table], promote_options="default")
        except (OSError, pa.ArrowException, ValueError) as error:
            aside = file.with_suffix(".parquet.damaged")
            file.replace(aside)
            reason = str(error).splitlines()[0]
            trouble = (
                f"{file.name} of an earlier session can't be read ({reason}); "
                f"it is now {aside.name}"
            )
    table = table.replace_schema_metadata({_ABSENT: msgspec.json.encode(dict(absent or {}))})
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as place:
        pq.write_table(table, place)
    return trouble


def read_samples(file: Path, columns: Sequence[str]) -> tuple[Any, dict[str, str]]:
    """`monotonic_ns` and the named columns as an Arrow table, and why a source has no numbers.

    The rows are in the order of time. A column that the file lacks is null. Raises OSError,
    pyarrow.ArrowException or ValueError for a file that can't be read.
    """
    import pyarrow as pa

    table = _read(file)
    kinds = _kinds()
    names = ("monotonic_ns", *columns)
    absent = (table.schema.metadata or {}).get(_ABSENT, b"{}")
    whole = _cast(table, pa.schema([(name, kinds[name]) for name in names])).select(names)
    return whole.sort_by("monotonic_ns"), msgspec.json.decode(absent, type=dict[str, str])


def _read(file: Path) -> Any:
    import pyarrow.parquet as pq

    # An open file: pyarrow reads more than a path into one that holds "=" or "?". `read_table`
    # would import pyarrow's data sets, which takes as long as reading.
    with file.open("rb") as content, pq.ParquetFile(content) as table:
        return table.read()


def _cast(table: Any, schema: Any) -> Any:
    """The table with the columns of the schema in its types, and those that only it has.

    Raises ValueError for a table without the clocks, ArrowException for other types.
    """
    import pyarrow as pa

    names = table.column_names
    for name in _REQUIRED:
        if name not in names:
            raise ValueError(f"it has no column {name}")
    fields = [
        schema.field(name) if name in schema.names else table.schema.field(name) for name in names
    ]
    known = table.cast(pa.schema(fields))
    for field in schema:
        if field.name not in names:
            known = known.append_column(field, pa.nulls(len(known), field.type))
    return known


def _kinds() -> dict[str, Any]:
    """The Arrow type of every column, from the types of the sample's fields."""
    import pyarrow as pa

    sample = inspect.type_info(TelemetrySample)
    assert isinstance(sample, inspect.StructType)

    def kind(of: inspect.Type) -> Any:
        types = of.types if isinstance(of, inspect.UnionType) else (of,)
        is_float = any(isinstance(each, inspect.FloatType) for each in types)
        return pa.float64() if is_float else pa.int64()

    return {field.name: kind(field.type) for field in sample.fields}
