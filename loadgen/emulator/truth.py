"""The log of what the emulator did: one JSON line a request, written when the request is over."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self


@dataclass(slots=True)
class Truth:
    """One request. Times are on CLOCK_MONOTONIC, ns, each read just before the kernel got the
    bytes.

    `key`: its X-Request-Id. `trace`: the trace id in its traceparent. `queued_ns`: the request came
    into the engine's queue. `started_ns`: it got a slot. `active`: requests in a slot then, this
    one included. `event_ns`: each event with tokens, `event_tokens` how many. `finished_ns`: the
    last token, with or without text. `end`: "complete", the fault's name, or "closed" where the
    client went away.
    """

    request: int
    connection: int
    prompt: str
    arrived_ns: int
    fault: str | None
    key: str = ""
    trace: str = ""
    queued_ns: int | None = None
    started_ns: int | None = None
    active: int = 0
    head_ns: int | None = None
    event_ns: list[int] = field(default_factory=list)
    event_tokens: list[int] = field(default_factory=list)
    finished_ns: int | None = None
    ended_ns: int | None = None
    end: str = ""

    @property
    def phases_ns(self) -> tuple[int, int, int] | None:
        """Time in the queue, of the prefill, and of the decode; None before the last token."""
        if self.queued_ns is None or self.started_ns is None or self.finished_ns is None:
            return None
        first_ns = self.event_ns[0]
        return (
            self.started_ns - self.queued_ns,
            first_ns - self.started_ns,
            self.finished_ns - first_ns,
        )


class TruthLog:
    """A file of `Truth`. Without a path it writes nothing."""

    def __init__(self, path: Path | None) -> None:
        self._file = path.open("w", buffering=1, encoding="utf-8") if path else None

    def write(self, truth: Truth) -> None:
        """Writes the line of a request."""
        if self._file:
            self._file.write(json.dumps(asdict(truth)) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file:
            self._file.close()
