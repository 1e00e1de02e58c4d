"""What the servers did over the time of the run, on the journals' clock: the timeline's panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foundation.arrays import Floats
from foundation.run.journal import Damage
from results.measures.measured import MeasuredVariant
from results.measures.steady_state import BlockTrace
from results.measures.telemetry import SAME_BOOT_NS, SERIES, Series, Telemetry, read_telemetry
from results.report.evidence import origin_of, traces_of
from results.report.figures.timeline import Panel, Trace

_SOURCES = {"gpu_energy_j": "energy of the GPUs", "cpu_energy_j": "energy of the processors"}


@dataclass(frozen=True)
class Servers:
    """The panels of the timeline, and in sentences what they lack."""

    panels: tuple[Panel, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Server:
    """One server's samples; `name` has all variants that it serves, `slot` is the first one's."""

    name: str
    slot: int
    at: Floats
    values: Mapping[str, Floats]


def servers_of(run: Path, measured: Sequence[MeasuredVariant], slots: Mapping[str, int]) -> Servers:
    """Reads the telemetry of every variant in `slots`, which gives each its place."""
    files = {name: read_telemetry(run, name) for name in slots}
    read = {name: each for name, each in files.items() if isinstance(each, Telemetry)}
    traces = [trace for variant in measured for _, _, trace in traces_of(variant)]
    servers = _servers(read, slots, traces) if traces else []
    panels = (_panel(series, servers) for series in SERIES)
    return Servers(
        tuple(panel for panel in panels if panel is not None),
        (*_without(files), *_absent(read)),
    )


def _without(files: Mapping[str, Telemetry | Damage | None]) -> list[str]:
    """Whose telemetry is missing or damaged."""
    missing = [name for name, each in files.items() if each is None]
    notes = [f"no telemetry of {', '.join(missing)}"] if missing else []
    return notes + [str(each) for each in files.values() if isinstance(each, Damage)]


def _absent(read: Mapping[str, Telemetry]) -> list[str]:
    """Why a source of numbers gave none, each reason once."""
    reasons = {(source, why): None for each in read.values() for source, why in each.absent.items()}
    return [f"{_SOURCES.get(source, source)}: {why}" for source, why in reasons]


def _servers(
    read: Mapping[str, Telemetry], slots: Mapping[str, int], traces: Sequence[BlockTrace]
) -> list[_Server]:
    """A server for each variant, or for several that share one; samples outside the run cut."""
    shared: dict[bytes, list[str]] = {}
    for name, telemetry in read.items():
        # Other servers are sampled at the same moments, with numbers of their own.
        numbers = (telemetry.monotonic_ns, *telemetry.values.values())
        shared.setdefault(b"".join(each.tobytes() for each in numbers), []).append(name)
    origin_ns = origin_of(traces)
    end = max((t.origin_unix_ns - origin_ns) / 1e9 + t.end / 1e3 for t in traces)
    servers = []
    for names in shared.values():
        telemetry = read[names[0]]
        at = _seconds(telemetry, traces, origin_ns)
        order = np.argsort(at, kind="stable")
        inside = order[(at[order] >= 0) & (at[order] <= end)]
        values = {column: each[inside] for column, each in telemetry.values.items()}
        servers.append(_Server(", ".join(names), slots[names[0]], at[inside], values))
    return servers


def _seconds(telemetry: Telemetry, traces: Sequence[BlockTrace], origin_ns: int) -> Floats:
    """When each sample was taken, in seconds after the run's first block began.

    A sample is placed by CLOCK_MONOTONIC from the block that was under way or had ended: a time of
    day that somebody sets meanwhile moves neither. A sample of another boot is placed by its own
    time of day.
    """
    ordered = sorted(traces, key=lambda trace: trace.origin_monotonic_ns)
    began = np.array([trace.origin_monotonic_ns for trace in ordered])
    offsets = np.array([trace.origin_unix_ns - trace.origin_monotonic_ns for trace in ordered])
    index = np.searchsorted(began, telemetry.monotonic_ns, side="right") - 1
    offset = offsets[np.maximum(index, 0)]
    own = telemetry.unix_ns - telemetry.monotonic_ns
    same_boot = np.abs(own - offset) < SAME_BOOT_NS
    seconds: Floats = (telemetry.monotonic_ns + np.where(same_boot, offset, own) - origin_ns) / 1e9
    return seconds


def _panel(series: Series, servers: Sequence[_Server]) -> Panel | None:
    """One number of all servers; None where nobody read it, or it is rare and stayed zero."""
    traces = tuple(
        Trace(server.name, server.slot, server.at, values)
        for server in servers
        if (values := server.values.get(series.column)) is not None and not np.isnan(values).all()
    )
    if not traces or (series.rare and all(np.nanmax(trace.values) == 0 for trace in traces)):
        return None
    return Panel(series.label, series.unit, traces)
