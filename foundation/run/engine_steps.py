"""Reads the steps of the servers in engine records, with the requests that were in them.

A line that can't be read is left out and named (`read_engine_records` says how).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foundation.arrays import Ints
from foundation.run.engine_record import (
    EngineLimits,
    EngineRequest,
    EngineStart,
    EngineStep,
    key_parts,
)
from foundation.run.engine_records import UNKNOWN, LeftOut, engine_lines

_BATCH = 1 << 16  # lines that are held as objects at a time


@dataclass(frozen=True)
class RecordedSteps:
    """s steps in the order of their ends: the fields of `EngineStep`, each (s,).

    `elapsed_ns` is `UNKNOWN` where steps overlap.
    """

    ended_ns: Ints
    elapsed_ns: Ints
    context_requests: Ints
    context_tokens: Ints
    generation_requests: Ints
    generation_tokens: Ints
    running: Ints
    waiting: Ints

    def __len__(self) -> int:
        return len(self.ended_ns)


@dataclass(frozen=True)
class RecordedRequests:
    """n requests that were finished, in the order of their ends: the fields of `EngineRequest`.

    `origin` and `number` are those of their `request_key`; `preemptions` may be `UNKNOWN`.
    """

    origin: Ints
    number: Ints
    finished_ns: Ints
    queued_ns: Ints
    prefill_ns: Ints
    decode_ns: Ints
    input_tokens: Ints
    output_tokens: Ints
    cached_tokens: Ints
    preemptions: Ints

    def __len__(self) -> int:
        return len(self.origin)


@dataclass(frozen=True)
class ServerRecord:
    """What one start of a server says of its engine. `limits`: None where it does not say."""

    source: str
    limits: EngineLimits | None
    steps: RecordedSteps
    requests: RecordedRequests


def read_server_records(file: Path, left_out: LeftOut) -> list[ServerRecord]:
    """A record for each start of a server in a file, in order.

    Requests without a key of ours, and without a moment, are not in it. Raises BadInput for a
    record of a newer tunedyno.
    """
    servers: list[_Server] = []
    for _, line in engine_lines(file, left_out):
        if isinstance(line, EngineStart):
            servers.append(_Server(line))
        else:
            servers[-1].take(line)
    return [server.record() for server in servers]


class _Server:
    """Gathers the lines of one start, as numbers."""

    def __init__(self, start: EngineStart) -> None:
        self._start = start
        self._steps: list[tuple[int, ...]] = []
        self._requests: list[tuple[int, ...]] = []
        self._parts: tuple[list[Ints], list[Ints]] = ([], [])

    def take(self, line: EngineRequest | EngineStep) -> None:
        if isinstance(line, EngineStep):
            self._steps.append(_step_row(line))
        elif line.finished_ns is not None and (key := key_parts(line.key)) is not None:
            self._requests.append((*key, *_request_row(line, line.finished_ns)))
        if len(self._steps) + len(self._requests) == _BATCH:
            self._pack()

    def record(self) -> ServerRecord:
        self._pack()
        steps, requests = (np.concatenate(parts) for parts in self._parts)
        steps = steps[np.argsort(steps[:, 0], kind="stable")]
        requests = requests[np.argsort(requests[:, 2], kind="stable")]
        return ServerRecord(
            self._start.source,
            self._start.limits,
            RecordedSteps(*np.ascontiguousarray(steps.T)),
            RecordedRequests(*np.ascontiguousarray(requests.T)),
        )

    def _pack(self) -> None:
        for rows, parts, width in zip(
            (self._steps, self._requests), self._parts, (8, 10), strict=True
        ):
            parts.append(np.array(rows, dtype=np.int64).reshape(-1, width))
            rows.clear()


def _step_row(step: EngineStep) -> tuple[int, ...]:
    return (
        step.ended_ns,
        UNKNOWN if step.elapsed_ns is None else step.elapsed_ns,
        step.context_requests,
        step.context_tokens,
        step.generation_requests,
        step.generation_tokens,
        step.running,
        step.waiting,
    )


def _request_row(request: EngineRequest, finished_ns: int) -> tuple[int, ...]:
    return (
        finished_ns,
        request.queued_ns,
        request.prefill_ns,
        request.decode_ns,
        request.input_tokens,
        request.output_tokens,
        request.cached_tokens,
        UNKNOWN if request.preemptions is None else request.preemptions,
    )
