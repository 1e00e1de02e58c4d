"""Recorded traffic: when requests came, how long they and their answers were, which blocks of their prompts they share.

Known by their own names: Azure's LLM inference traces (CSV: TIMESTAMP, ContextTokens, GeneratedTokens), BurstGPT (CSV:
Timestamp, Request tokens, Response tokens), Mooncake (JSON lines: timestamp in ms, input_length, output_length, hash_ids), and
our own JSON lines, `{"at": seconds, "input_tokens", "output_tokens", "hash_ids"}`, of which only `at` must be there.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foundation.errors import BadInput

# Tokens in each block that a Mooncake trace names by its hash, of a prompt's last block at most.
HASH_BLOCK = 512

_SHAPES = (
    "an Azure (TIMESTAMP) or BurstGPT (Timestamp, Request tokens) CSV, "
    'Mooncake JSON lines (timestamp, input_length) or {"at": seconds}'
)
# CSV columns: arrival, input tokens, output tokens.
_AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_BURSTGPT = ("Timestamp", "Request tokens", "Response tokens")


class Arrival(NamedTuple):
    """One line. `at` in seconds on the file's own clock; `hash_ids` name the prompt's blocks of 512 tokens, equal where equal."""

    at: float
    input_tokens: int | None = None
    output_tokens: int | None = None
    hash_ids: tuple[int, ...] = ()


@lru_cache(maxsize=8)
def arrival_seconds(file: Path) -> NDArray[np.float64]:
    """The arrivals of a trace, sorted, in seconds from its first. Raises BadInput that names file and line."""
    times = np.fromiter((arrival.at for arrival in read_trace(file)), np.float64)
    since: NDArray[np.float64] = times - times[0]
    return since


@lru_cache(maxsize=2)
def read_trace(file: Path) -> list[Arrival]:
    """The lines of a trace, by arrival. Raises BadInput that names file and line."""
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            first = lines.readline()
            lines.seek(0)
            rows = _json_lines(file, lines) if first.lstrip().startswith("{") else _csv(file, lines)
            arrivals = sorted(rows, key=lambda arrival: arrival.at)
    except FileNotFoundError:
        raise BadInput(f"{file}: no such trace") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: can't be read ({error})") from error
    if not arrivals:
        raise BadInput(f"{file}: no arrivals; write {_SHAPES}")
    return arrivals


def _csv(file: Path, lines: Iterator[str]) -> Iterator[Arrival]:
    reader = csv.DictReader(lines)
    columns = set(reader.fieldnames or ())
    if "TIMESTAMP" in columns:
        at, taken, given = _AZURE
    elif {"Timestamp", "Request tokens"} <= columns:
        at, taken, given = _BURSTGPT
    else:
        raise BadInput(f"{file}:1: columns {', '.join(sorted(columns)) or 'none'}; write {_SHAPES}")
    for row in reader:
        where = f"{file}:{reader.line_num}"
        text = row[at]
        try:
            seconds = datetime.fromisoformat(text).timestamp() if at == "TIMESTAMP" else float(text)
        except (TypeError, ValueError):
            raise BadInput(f"{where}: {at}: {text!r} is no time") from None
        yield Arrival(seconds, _tokens(where, row, taken), _tokens(where, row, given))


def _json_lines(file: Path, lines: Iterator[str]) -> Iterator[Arrival]:
    for number, line in enumerate(lines, start=1):
        where = f"{file}:{number}"
        try:
            row: Any = json.loads(line)
            ours = "at" in row
            at = float(row["at"] if ours else row["timestamp"] / 1e3)
        except (ValueError, TypeError, KeyError):
            raise BadInput(f"{where}: no arrival in {line.strip()[:60]!r}; write {_SHAPES}") from None
        taken, given = ("input_tokens", "output_tokens") if ours else ("input_length", "output_length")
        hashes = row.get("hash_ids") or []
        if not isinstance(hashes, list) or not all(isinstance(each, int) for each in hashes):
            raise BadInput(f"{where}: hash_ids: write whole numbers in a list, not {str(hashes)[:60]}")
        yield Arrival(at, _tokens(where, row, taken), _tokens(where, row, given), tuple(hashes))


def _tokens(where: str, row: dict[str, Any], name: str) -> int | None:
    """A count of tokens, None where the line has none. Where it is 0 (a request of BurstGPT's that failed) 1 is asked for."""
    value = row.get(name)
    if value is None or value == "":
        return None
    try:
        return max(1, int(value))
    except (TypeError, ValueError):
        raise BadInput(f"{where}: {name}: {value!r} is no number of tokens") from None
