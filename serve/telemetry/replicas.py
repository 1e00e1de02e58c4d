"""The samples of replicas as one server's, and the files of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from foundation.run.records import TelemetrySample
from foundation.run.telemetry import write_samples
from serve.telemetry.server_samples import ServerSamples

_OF_ALL = ("monotonic_ns", "unix_ns")
_OF_MACHINE = ("host_", "cpu_energy_", "gpu_")
_SHARES = ("kv_cache_usage",)
"""A share of all replicas is the mean of theirs; every other number of a server is their sum."""


def joined_samples(replicas: Sequence[Sequence[TelemetrySample]]) -> list[TelemetrySample]:
    """The samples of replicas, added, at the moments at which all of them have one."""
    first, *others = replicas
    if not others:
        return list(first)
    at = [{sample.monotonic_ns: sample for sample in each} for each in others]
    return [
        _joined([sample, *(each[sample.monotonic_ns] for each in at)])
        for sample in first
        if all(sample.monotonic_ns in each for each in at)
    ]


def _joined(samples: Sequence[TelemetrySample]) -> TelemetrySample:
    fields = {
        name: _together(name, [getattr(sample, name) for sample in samples])
        for name in TelemetrySample.__struct_fields__
    }
    return msgspec.convert(fields, TelemetrySample)


def _together(name: str, values: Sequence[float | None]) -> float | None:
    """One number of several replicas; None where one of them does not have it."""
    if name in _OF_ALL or name.startswith(_OF_MACHINE):
        return values[0]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return sum(known) / len(known) if name in _SHARES else sum(known)


def write_files(
    servers: Sequence[ServerSamples], folder: Path, absent: Mapping[str, str]
) -> list[str]:
    """Writes a file for each variant; of replicas, one of each beside that of all together.

    Returns what was damaged, a sentence each.
    """
    groups: dict[tuple[str, ...], list[ServerSamples]] = {}
    for each in servers:
        groups.setdefault(each.server.variants, []).append(each)
    troubles = []
    for variants, group in groups.items():
        why = group[0].absent or absent
        for name in variants:
            files = {name: joined_samples([each.samples for each in group])}
            if len(group) > 1:
                files |= {f"{name}.replica-{each.server.replica}": each.samples for each in group}
            for file, samples in files.items():
                troubles += _write(samples, folder / f"{file}.parquet", why)
    return troubles


def _write(samples: Sequence[TelemetrySample], file: Path, absent: Mapping[str, str]) -> list[str]:
    if not samples:
        return []
    try:
        damage = write_samples(samples, file, absent)
    except OSError as problem:
        return [f"{file.stem}: its samples can't be written ({problem.strerror or problem})"]
    return [damage] if damage else []
