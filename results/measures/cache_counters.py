"""A server's own counters of its prefix cache, by second: `telemetry/VARIANT.parquet`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foundation.arrays import Ints
from foundation.run.journal import Damage


@dataclass(frozen=True)
class Counters:
    """Samples (n,) in the order of time, ns of CLOCK_MONOTONIC.

    Since the start of the server: tokens that were looked up (`queries`) and found.
    """

    at_ns: Ints
    hits: Ints
    queries: Ints


def read_counters(run: Path, variant: str) -> Counters | Damage | None:
    """None where the run has no telemetry of the variant."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = Path("telemetry") / f"{variant}.parquet"
    columns = ("monotonic_ns", "prefix_cache_hits", "prefix_cache_queries")
    if not (run / name).is_file():
        return None
    try:
        table = pq.read_table(run / name, columns=list(columns))
        whole = (
            table.cast(pa.schema([(column, pa.int64()) for column in columns]))
            .drop_null()
            .sort_by("monotonic_ns")
        )
    except (OSError, pa.ArrowException, ValueError) as error:
        return Damage(name, 0, f"can't be read ({str(error).splitlines()[0]})")
    return Counters(*(whole.column(column).to_numpy() for column in columns))
