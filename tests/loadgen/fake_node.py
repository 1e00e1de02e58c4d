"""A node in this process: real workers, under a clock that may be ahead of ours."""

from __future__ import annotations

import asyncio
import time

import msgspec
import numpy as np

from loadgen.sending.nodes.clock import PINGS, ClockOffset, clock_offset
from loadgen.sending.nodes.facts import facts_here
from loadgen.sending.nodes.node import NodeFacts, NodeLost, NodeMessages
from loadgen.sending.nodes.process import NodeProcess


class FakeNode:
    """A node whose clock is `ahead_ns` ahead of ours, lost after so many calls for messages."""

    def __init__(self, name: str, ahead_ns: int = 0, lost_after: int | None = None) -> None:
        self.id, self.facts = name, msgspec.structs.replace(facts_here(), name=name)
        self.ahead_ns, self.calls_left = ahead_ns, lost_after
        self.process, self.offsets = NodeProcess(), list[ClockOffset]()

    async def clock(self) -> ClockOffset:
        self._check()
        pings = []
        for _ in range(PINGS):
            sent = time.monotonic_ns()
            received, answered = (at + self.ahead_ns for at in self.process.stamps())
            pings.append((sent, received, answered, time.monotonic_ns()))
        self.offsets.append(clock_offset(*np.array(pings, np.int64).T))
        return self.offsets[-1]

    async def start(self, work: bytes) -> tuple[int, bytes]:
        return await asyncio.to_thread(self.process.start, work)

    async def order(self, job: int, line: str) -> None:
        self._check()
        word, *numbers = line.split()
        if word == "origin":  # the worker runs on our clock
            line = f"origin {int(numbers[0]) - self.ahead_ns} {numbers[1]}"
        self.process.order(job, line)

    async def messages(self, job: int) -> NodeMessages:
        if self.calls_left is not None:
            self.calls_left -= 1
        self._check()
        lines, code, complaints = await asyncio.to_thread(self.process.messages, job)
        return NodeMessages(lines, code, complaints)

    async def piece(self, job: int, offset: int) -> bytes:
        self._check()
        return self.process.piece(job, offset)

    async def end(self, job: int) -> None:
        await asyncio.to_thread(self.process.end, job)
        self._check()

    def _check(self) -> None:
        if self.calls_left is not None and self.calls_left <= 0:
            raise NodeLost(f"node {self.facts.name} was lost (the actor died)")


def facts(**changes: object) -> NodeFacts:
    """The facts of this machine, with some changed."""
    return msgspec.structs.replace(facts_here(), **changes)
