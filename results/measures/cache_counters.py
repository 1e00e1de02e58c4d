"""A server's own counters of its prefix cache, over time: `telemetry/VARIANT.parquet`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foundation.arrays import Ints
from foundation.run.journal import Damage
from foundation.run.telemetry import read_samples


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

    name = Path("telemetry") / f"{variant}.parquet"
    columns = ("prefix_cache_hits", "prefix_cache_queries")
    if not (run / name).is_file():
        return None
    try:
        table, _ = read_samples(run / name, columns)
    except (OSError, pa.ArrowException, ValueError) as error:
        return Damage(name, 0, f"can't be read ({str(error).splitlines()[0]})")
    whole = table.drop_null()
    return Counters(*(whole.column(name).to_numpy() for name in ("monotonic_ns", *columns)))
