"""Arrival times out of recorded traffic.

Known by their own column names: Azure's LLM inference traces (CSV: TIMESTAMP), BurstGPT (CSV: Timestamp, Request tokens),
Mooncake (JSON lines: timestamp in ms, input_length), and our own JSON lines, `{"at": seconds}`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundation.errors import BadInput

_SHAPES = (
    "an Azure (TIMESTAMP) or BurstGPT (Timestamp, Request tokens) CSV, "
    'Mooncake JSON lines (timestamp, input_length) or {"at": seconds}'
)


@lru_cache(maxsize=8)
def arrival_seconds(file: Path) -> NDArray[np.float64]:
    """The arrivals of a trace, sorted, in seconds from its first. Raises BadInput that names file and line."""
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            first = lines.readline()
            lines.seek(0)
            rows = _json_lines(file, lines) if first.lstrip().startswith("{") else _csv(file, lines)
            times = np.sort(np.fromiter(rows, np.float64))
    except FileNotFoundError:
        raise BadInput(f"{file}: no such trace") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: can't be read ({error})") from error
    if not len(times):
        raise BadInput(f"{file}: no arrivals; write {_SHAPES}")
    since: NDArray[np.float64] = times - times[0]
    return since


def _csv(file: Path, lines: Iterator[str]) -> Iterator[float]:
    reader = csv.DictReader(lines)
    columns = set(reader.fieldnames or ())
    if "TIMESTAMP" in columns:
        column = "TIMESTAMP"
    elif {"Timestamp", "Request tokens"} <= columns:
        column = "Timestamp"
    else:
        raise BadInput(f"{file}:1: columns {', '.join(sorted(columns)) or 'none'}; write {_SHAPES}")
    for row in reader:
        text = row[column]
        try:
            yield datetime.fromisoformat(text).timestamp() if column == "TIMESTAMP" else float(text)
        except (TypeError, ValueError):
            raise BadInput(f"{file}:{reader.line_num}: {column}: {text!r} is no time") from None


def _json_lines(file: Path, lines: Iterator[str]) -> Iterator[float]:
    for number, line in enumerate(lines, start=1):
        try:
            row: Any = json.loads(line)
            at = row["at"] if "at" in row else row["timestamp"] / 1e3
            yield float(at)
        except (ValueError, TypeError, KeyError):
            raise BadInput(f"{file}:{number}: no arrival in {line.strip()[:60]!r}; write {_SHAPES}") from None
