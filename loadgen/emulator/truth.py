"""The logs of what the emulator did: a JSON line for each request, and for each step, when over."""

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
    client went away. Of an engine with steps (`--step`): `started_ns`, `first_ns` and
    `finished_ns` are the begin of its first step and the ends of those that made its first and last
    token; `cached_tokens` of its prompt were known, `computed_tokens` were computed, again after
    each of its `preemptions`.
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
    first_ns: int | None = None
    cached_tokens: int = 0
    computed_tokens: int = 0
    preemptions: int = 0

    @property
    def phases_ns(self) -> tuple[int, int, int] | None:
        """Time in the queue, of the prefill, and of the decode; None before the last token."""
        if self.queued_ns is None or self.started_ns is None or self.finished_ns is None:
            return None
        first_ns = self.event_ns[0] if self.first_ns is None else self.first_ns
        return (
            self.started_ns - self.queued_ns,
            first_ns - self.started_ns,
            self.finished_ns - first_ns,
        )


@dataclass(slots=True)
class StepTruth:
    """One step of an engine with steps (`--step`). Times on CLOCK_MONOTONIC, ns.

    It began and ended when the plant says. `sent_ns`: just before its first token went out, None
    where it made none. `decodes` (D), `kv_tokens` (K), `prefill_tokens` (P) and `pairs` (A) are
    those of `StepCost`. `decoding`: the requests that decoded. `pieces`: of prompts, as request,
    tokens before, and tokens. `preempted`: requests that lost their blocks to it.
    """

    step: int
    began_ns: int
    ended_ns: int
    decodes: int
    kv_tokens: int
    prefill_tokens: int
    pairs: float
    decoding: list[int]
    pieces: list[tuple[int, int, int]]
    preempted: list[int]
    sent_ns: int | None = None


class TruthLog:
    """A file of truths, a line each. Without a path it writes nothing."""

    def __init__(self, path: Path | None) -> None:
        self._file = path.open("w", buffering=1, encoding="utf-8") if path else None

    def write(self, truth: Truth | StepTruth) -> None:
        """Writes the line of a request or a step."""
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
