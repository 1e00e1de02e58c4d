"""The settings that differ between two runs, and which of them change the question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from foundation.run.journal import journal_files
from foundation.run.records import JournalHeader

Settings = Mapping[str, Any]
Changes = dict[tuple[str, ...], str]
"""By the path of a setting: how it changed, "0.31.0 -> 0.32.0"."""

# What a longer or a more careful measurement of the same load may change.
_OF_THE_MEASUREMENT = frozenset(
    {"blocks", "warmup", "seed", "max_in_flight", ("transport"), "workers", "race"}
)
_LENGTH = frozenset({"duration", "requests", "one_more_in"})
_ASKS = ("workload", "request")
_LIMITS = frozenset({"min", "max_drop"})

_header = msgspec.json.Decoder(JournalHeader)


def setting_changes(before: Settings, after: Settings) -> Changes:
    """What differs between two nested mappings: {("versions", "vllm"): "0.31.0 -> 0.32.0"}."""
    changes: Changes = {}
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping | None) and isinstance(new, Mapping | None):
            changes |= {
                (key, *path): change
                for path, change in setting_changes(old or {}, new or {}).items()
            }
        elif old != new:
            changes[key,] = f"{'none' if old is None else old} -> {'none' if new is None else new}"
    return changes


def lines(changes: Changes) -> list[str]:
    """A line a change: "versions.vllm: 0.31.0 -> 0.32.0"."""
    return [f"{'.'.join(path)}: {change}" for path, change in changes.items()]


def asked_changes(changes: Changes, stage: str) -> Changes:
    """Of the changes, those of what a stage asks, and how. What is not known to be harmless
    counts.
    """
    return {path: change for path, change in changes.items() if _role(path, stage) == "asked"}


def length_changes(changes: Changes, stage: str) -> Changes:
    """Of the changes, those of how long a stage's blocks are."""
    return {path: change for path, change in changes.items() if _role(path, stage) == "length"}


def scoring_changes(changes: Changes, probe: str | None = None) -> Changes:
    """The changes of a stage's question. A change that is not known to be harmless counts."""
    scored: Changes = {}
    for path, change in changes.items():
        section, *keys = path
        inside = keys[:2] == ["probes", probe] if probe else keys[:1] != ["probes"]
        if section == "quality" and inside and path[-1] not in _LIMITS:
            scored[path] = change
    return scored


def _role(path: tuple[str, ...], stage: str) -> Literal["asked", "length", ""]:
    section, *keys = path
    if section not in _ASKS:
        return ""
    if keys[:1] == ["stages"]:
        if keys[1:2] != [stage] or len(keys) < 3:
            return ""
        keys = keys[2:]
    if keys and keys[0] in _OF_THE_MEASUREMENT:
        return ""
    return "length" if keys and keys[0] in _LENGTH else "asked"


def read_headers(folder: Path) -> list[JournalHeader]:
    """The headers of a stage's journals; as in the analysis, only whole ones."""
    headers = []
    for file in journal_files(folder):
        with file.open("rb") as lines_:
            first = lines_.readline()
        try:
            headers.append(_header.decode(first))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return headers


def header_changes(before: Sequence[JournalHeader], after: Sequence[JournalHeader]) -> list[str]:
    """What the journals say was sent otherwise, block by block of the two runs."""
    changes = []
    for key in ("api", "arrivals", "offered_rate", "concurrency"):
        old, new = (
            sorted({str(getattr(header, key)) for header in side}) for side in (before, after)
        )
        if old != new:
            changes.append(f"{key}: {', '.join(old)} -> {', '.join(new)}")
    return changes
