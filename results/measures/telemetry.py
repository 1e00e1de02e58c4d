"""What a variant's server and machine did over time: `telemetry/VARIANT.parquet` as series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from foundation.arrays import Floats, Ints
from foundation.run.journal import Damage
from foundation.run.telemetry import read_samples
from results.measures.counter_samples import array_of, finite, floats_of


@dataclass(frozen=True)
class Series:
    """A number over time, from one column of the samples.

    `kind`: a "level" is shown as it was read; a "count" runs up, and its change per second is
    shown. A series that is `rare` is no news while it stays zero.
    """

    column: str
    label: str
    unit: str
    kind: Literal["level", "count"] = "level"
    rare: bool = False


SERIES = (
    Series("running", "running", "requests"),
    Series("waiting", "waiting", "requests"),
    Series("kv_cache_usage", "KV cache used", "share"),
    Series("generation_tokens", "output tokens", "tokens/s", "count"),
    Series("preemptions", "preemptions", "/s", "count", rare=True),
    Series("lora_running", "LoRA adapters", "adapters", rare=True),
    Series("cpu_s", "server CPU", "cores", "count"),
    Series("host_busy_s", "machine CPU", "cores", "count"),
    Series("host_steal_s", "CPU stolen", "cores", "count", rare=True),
    Series("rss_bytes", "server memory", "bytes"),
    Series("host_available_bytes", "memory available", "bytes"),
    Series("cpu_energy_j", "processor power", "W", "count"),
    Series("gpu_utilization", "GPU utilization", "share"),
    Series("gpu_memory_bytes", "GPU memory", "bytes"),
    Series("gpu_power_w", "GPU power", "W"),
    Series("gpu_sm_clock_mhz", "GPU SM clock", "MHz"),
    Series("gpu_temperature_c", "GPU temperature", "°C"),
)
"""The series of the report's timeline, in its order."""


SAME_BOOT_NS = 10 * 10**9
"""The two clocks of two boots are further apart than this; of one boot they are not."""
_RATE_NS = 10**9
# A count is not known to have run on over a longer time without samples.
_LONGEST_GAP_S = 10.0


@dataclass(frozen=True)
class Telemetry:
    """Samples (n,) on both clocks, boot by boot of the machine, and each series (n,) by its column.

    A value is NaN where it was not read. A series without any value is left out. `absent`: why a
    source has no numbers, by source.
    """

    monotonic_ns: Ints
    unix_ns: Ints
    values: Mapping[str, Floats]
    absent: Mapping[str, str]


def read_telemetry(run: Path, variant: str) -> Telemetry | Damage | None:
    """None where the run has no telemetry of the variant."""
    import pyarrow as pa

    name = Path("telemetry") / f"{variant}.parquet"
    if not (run / name).is_file():
        return None
    columns = [series.column for series in SERIES]
    try:
        table, absent = read_samples(run / name, ("unix_ns", *columns))
    except (OSError, pa.ArrowException, ValueError) as error:
        return Damage(name, 0, f"can't be read ({str(error).splitlines()[0]})")
    timed = table.filter(table["monotonic_ns"].is_valid()).combine_chunks()
    timed = timed.filter(timed["unix_ns"].is_valid())
    order = _by_boot(*(array_of(timed[clock]) for clock in ("monotonic_ns", "unix_ns")))
    timed = timed.take(order)
    at_ns = array_of(timed["monotonic_ns"])
    numbers = {series.column: finite(floats_of(timed[series.column])) for series in SERIES}
    shown = {
        series.column: _per_second(at_ns, numbers[series.column])
        if series.kind == "count"
        else numbers[series.column]
        for series in SERIES
    }
    known = {column: values for column, values in shown.items() if not np.isnan(values).all()}
    return Telemetry(at_ns, array_of(timed["unix_ns"]), known, absent)


def _by_boot(monotonic_ns: Ints, unix_ns: Ints) -> Ints:
    """The order of samples of several boots: boot by boot, each in the order of its clock."""
    offset = unix_ns - monotonic_ns
    ordered = np.argsort(offset, kind="stable")
    boot = np.empty(len(offset), dtype=np.int64)
    boot[ordered] = np.cumsum(np.diff(offset[ordered], prepend=offset[ordered][:1]) > SAME_BOOT_NS)
    order: Ints = np.lexsort((monotonic_ns, boot))
    return order


def _per_second(at_ns: Ints, counts: Floats) -> Floats:
    """The change per second over the second before each sample.

    The kernel counts CPU time in steps of 10 ms, which over less time are no rate. NaN where a
    count began again, and behind a long time without samples.
    """
    starts = np.flatnonzero(np.diff(at_ns) < 0) + 1  # of the machine's later boots
    boots = zip(np.split(at_ns, starts), np.split(counts, starts), strict=True)
    return np.concatenate([_rates(*boot) for boot in boots])


def _rates(at_ns: Ints, counts: Floats) -> Floats:
    """The change per second since the last sample that is `_RATE_NS` older; NaN without one."""
    before = np.searchsorted(at_ns, at_ns - _RATE_NS, side="right") - 1
    seconds = (at_ns - at_ns[before]) / 1e9
    change = counts - counts[before]
    restarts = np.cumsum(np.diff(counts, prepend=counts[:1]) < 0)
    is_known = (before >= 0) & (seconds <= _LONGEST_GAP_S) & (restarts == restarts[before])
    rates = np.full(len(counts), np.nan)
    np.divide(change, seconds, out=rates, where=is_known)
    return rates
