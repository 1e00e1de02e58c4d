"""Reads a trace of torch's profiler: Chrome's trace format, as JSON or gzipped JSON.

The file is decoded event by event, so that memory holds the events and never the whole text.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from sys import intern
from typing import IO, NamedTuple

from foundation.errors import BadInput

LIMIT_BYTES = 1 << 30
"""The most bytes of JSON that are read."""
_PIECE = 1 << 22
_LONGEST_EVENT = 1 << 20
_KEY = '"traceEvents"'
_DEVICE = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})
_HOST = frozenset({"cpu_op", "user_annotation"})


class Event(NamedTuple):
    """A complete event ("X") of a trace; times in µs on the trace's own clock."""

    name: str
    thread: str
    start: float
    end: float


@dataclass(frozen=True)
class Trace:
    """The events that say where time goes.

    `host`: operators and annotations of the processes' threads. `device`: kernels and copies of an
    accelerator. `start`, `end`: when the profiler began and ended recording, in µs.
    """

    host: list[Event]
    device: list[Event]
    start: float
    end: float


def read_trace(file: Path, limit: int = LIMIT_BYTES) -> Trace:
    """The events of a trace. Raises BadInput for a file that is larger than `limit` bytes of JSON,
    is cut off, or holds no event.
    """
    host: list[Event] = []
    device: list[Event] = []
    recorded: list[Event] = []
    try:
        for raw in _raw_events(file, limit):
            category = raw.get("cat")
            if raw.get("ph") != "X" or not isinstance(category, str):
                continue
            if category in _HOST or category in _DEVICE or category == "Trace":
                event = _event(raw)
                into = device if category in _DEVICE else host if category in _HOST else recorded
                into.append(event)
    except (EOFError, OSError, zlib.error, ValueError, KeyError, TypeError) as error:
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
            raise
        raise BadInput(f"{file}: not a whole trace of torch's profiler ({error})") from None
    if not host:
        raise BadInput(f"{file}: the trace holds no operator")
    whole = [*recorded, *host, *device]
    return Trace(host, device, min(e.start for e in whole), max(e.end for e in whole))


def _event(raw: dict[str, object]) -> Event:
    start, duration = raw["ts"], raw.get("dur", 0)
    if not isinstance(start, int | float) or not isinstance(duration, int | float):
        raise ValueError("an event's time is no number")
    if not (math.isfinite(start) and math.isfinite(duration) and duration >= 0):
        raise ValueError(f"an event of {duration} µs at {start}")
    thread = intern(f"{raw.get('pid')}/{raw.get('tid')}")
    return Event(intern(str(raw["name"])), thread, float(start), float(start + duration))


def _raw_events(file: Path, limit: int) -> Iterator[dict[str, object]]:
    """The objects of the list `traceEvents`, one at a time. Raises ValueError for a cut-off list.

    Raises BadInput for more than `limit` bytes.
    """
    with _opened(file) as stream:
        text, read = "", 0

        def more() -> str:
            nonlocal read
            piece = stream.read(_PIECE)
            read += len(piece)
            if read > limit:
                raise BadInput(
                    f"{file}: larger than {limit / 1e6:,.0f} MB of JSON; "
                    "profile fewer steps with --iterations"
                )
            if not piece:
                raise ValueError("it is cut off")
            return piece

        while _KEY not in text:
            text = text[-len(_KEY) :] + more()
        text = text[text.index(_KEY) + len(_KEY) :]
        while "[" not in text:
            text += more()
        yield from _objects(text[text.index("[") + 1 :], more)


def _objects(text: str, more: Callable[[], str]) -> Iterator[dict[str, object]]:
    """The objects of a JSON list whose text begins after its bracket."""
    decode, at = json.JSONDecoder().raw_decode, 0
    while True:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        if at < len(text) and text[at] == "]":
            return
        try:
            value, at = decode(text, at)
        except json.JSONDecodeError:
            text, at = text[at:], 0
            if len(text) > _PIECE + _LONGEST_EVENT:
                raise
            text += more()
            continue
        if not isinstance(value, dict):
            raise ValueError("an event is no object")
        yield value


def _opened(file: Path) -> IO[str]:
    """The file's text, unpacked if its name ends in ".gz"."""
    if file.suffix == ".gz":
        return gzip.open(file, "rt", encoding="utf-8", errors="replace")
    return file.open(encoding="utf-8", errors="replace")
