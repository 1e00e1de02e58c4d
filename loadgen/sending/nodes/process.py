"""What runs on a node: it says what the node is, reads its clock, and runs the workers of jobs.

Ray runs a `NodeProcess` as an actor; it needs none of Ray itself. The load is sent by processes of
their own, so that the threads of an actor do not disturb it.
"""

from __future__ import annotations

import time
from itertools import count

import msgspec

from loadgen.sending.nodes.facts import facts_here
from loadgen.sending.nodes.job import NodeJob


class NodeProcess:
    """Answers a run's calls on a node. All values are of types that msgpack has."""

    def __init__(self) -> None:
        self._jobs: dict[int, NodeJob] = {}
        self._numbers = count()

    def facts(self) -> dict[str, object]:
        """What this node says of itself, as a `NodeFacts` in plain types."""
        facts: dict[str, object] = msgspec.to_builtins(facts_here())
        return facts

    def stamps(self) -> tuple[int, int]:
        """The node's part of a ping-pong: received and answered, ns on CLOCK_MONOTONIC."""
        received = time.monotonic_ns()
        return received, time.monotonic_ns()

    def start(self, work: bytes) -> tuple[int, bytes]:
        """Starts a worker, as `Node.start`."""
        number = next(self._numbers)
        job = self._jobs[number] = NodeJob(work)
        return number, job.first_line()

    def order(self, job: int, line: str) -> None:
        """Writes a line of orders to a job's worker."""
        self._jobs[job].order(line)

    def messages(self, job: int) -> tuple[list[bytes], int | None, str]:
        """What a job's worker says: lines, exit code, complaints."""
        return self._jobs[job].messages()

    def piece(self, job: int, offset: int) -> bytes:
        """A piece of a job's journal."""
        return self._jobs[job].piece(offset)

    def end(self, job: int) -> None:
        """Ends a job; nothing where it has ended."""
        if (ended := self._jobs.pop(job, None)) is not None:
            ended.end()
