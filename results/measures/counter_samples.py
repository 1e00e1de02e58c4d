"""Samples of a server's and its machine's counters, and how much they grew during a block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foundation.arrays import Floats, Ints
from foundation.run.journal import Damage, Journal
from foundation.run.telemetry import read_samples
from results.measures.steady_state import StageData
from results.measures.window import window_of

_GAP_NS = 2_000_000_000
"""The longest gap between samples over which a counter is interpolated."""
_COLUMNS = (
    "running", "waiting", "prompt_tokens", "generation_tokens", "cpu_energy_j", "gpu_energy_j",
    "gpu_memory_bytes", "gpu_throttle", "spec_drafts", "spec_draft_tokens", "spec_accepted_tokens",
    "prefix_cache_hits", "prefix_cache_queries",
)  # fmt: skip


@dataclass(frozen=True)
class CounterSamples:
    """Samples (n,) in the order of time, ns of CLOCK_MONOTONIC.

    `columns`: fields of `TelemetrySample`, NaN where a number is not known. `absent`: why energy
    was not read, by field.
    """

    at_ns: Ints
    columns: Mapping[str, Floats]
    absent: Mapping[str, str]

    def known(self, *columns: str) -> tuple[Ints, Floats]:
        """The moments (m,) of the samples that have all the columns, and values (columns, m)."""
        values = np.array([self.columns[column] for column in columns])
        there = ~np.isnan(values).any(axis=0)
        return self.at_ns[there], values[:, there]


@dataclass(frozen=True)
class Window:
    """The steady part of a block, ns of CLOCK_MONOTONIC, and what ended well in it."""

    block: int
    start_ns: int
    end_ns: int
    completed: int
    output_tokens: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return (self.end_ns - self.start_ns) / 1e9


def read_counter_samples(run: Path, variant: str) -> CounterSamples | Damage | None:
    """None where the run has no telemetry of the variant."""
    import pyarrow as pa

    name = Path("telemetry") / f"{variant}.parquet"
    if not (run / name).is_file():
        return None
    try:
        table, absent = read_samples(run / name, _COLUMNS)
        table = table.filter(table.column("monotonic_ns").is_valid())
    except (OSError, pa.ArrowException, ValueError) as error:
        return Damage(name, 0, f"can't be read ({str(error).splitlines()[0]})")
    columns = {column: finite(floats_of(table.column(column))) for column in _COLUMNS}
    return CounterSamples(array_of(table.column("monotonic_ns")), columns, absent)


def floats_of(column: Any) -> Floats:
    """An Arrow column of numbers (n,), NaN for each that is null."""
    import pyarrow as pa

    is_valid = array_of(column.is_valid().cast(pa.uint8())).astype(np.bool_)
    values = np.full(len(is_valid), np.nan)
    values[is_valid] = array_of(column.drop_null())
    return values


def array_of(column: Any) -> Any:
    """An Arrow column of numbers without nulls as one array.

    By DLPack: an Arrow column's own `to_numpy` would import pandas, which takes as long as all else
    that is done with telemetry.
    """
    return np.from_dlpack(column.combine_chunks())


def finite(values: Floats) -> Floats:
    """The values, NaN for each that is infinite."""
    return np.where(np.isfinite(values), values, np.nan)


def windows_of(stage: StageData, journals: Sequence[Journal]) -> list[Window]:
    """The steady windows of a stage's blocks, in their order."""
    blocks = {block.number: block for block in stage.blocks}
    windows = []
    for journal in journals:
        start, end = window_of(journal)
        origin, block = journal.header.origin_monotonic_ns, blocks.get(journal.header.block)
        if block is not None and block.window_s > 0:
            windows.append(
                Window(
                    block=block.number,
                    start_ns=int(origin + start + stage.settling.cut_ns),
                    end_ns=int(origin + end),
                    completed=block.completed,
                    output_tokens=block.output_tokens,
                )
            )
    return sorted(windows, key=lambda window: window.block)


def increase(telemetry: CounterSamples, column: str, window: Window) -> float | None:
    """How much a counter grew in a window, interpolated between samples at its ends.

    None where samples at the ends are missing or far apart, or the counter began again.
    """
    at_ns, (values,) = telemetry.known(column)
    first = int(np.searchsorted(at_ns, window.start_ns, side="right")) - 1
    last = int(np.searchsorted(at_ns, window.end_ns))
    if first < 0 or last == len(at_ns):
        return None
    inside_ns, inside = at_ns[first : last + 1], values[first : last + 1]
    ends = (inside_ns[1] - inside_ns[0], inside_ns[-1] - inside_ns[-2])
    if max(ends) > _GAP_NS or np.any(np.diff(inside) < 0):
        return None
    # Relative to the first sample: the clock's numbers are too long for a float.
    moments = np.array([window.start_ns, window.end_ns]) - inside_ns[0]
    start, end = np.interp(moments, inside_ns - inside_ns[0], inside)
    return float(end - start)
