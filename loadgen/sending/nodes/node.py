"""A node: a machine that sends a share of a block, however we reach it."""

from __future__ import annotations

from typing import Protocol

import msgspec

from foundation.errors import SystemFailed
from foundation.run.ceiling import Ceiling
from foundation.run.records import Count
from loadgen.sending.nodes.clock import ClockOffset

SILENCE_S = 30.0
"""A node that does not answer a call for so long is lost."""
START_S = 60.0
"""A worker that is not ready after so long does not start: it imports, and asks the server once."""


class NodeLost(SystemFailed):
    """A node is gone, or does not answer."""


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of itself.

    `name`: its host's. `network`: the same on two nodes where 127.0.0.1 is the same. `ceiling`: by
    its own calibration, None without one. `notes`: why a calibration there does not count.
    """

    name: str
    processor: str
    cores: Count
    python: str
    dyno: str
    network: str
    ceiling: Ceiling | None = None
    notes: list[str] = []


class NodeMessages(msgspec.Struct, frozen=True, array_like=True):
    """The lines of a job's worker since the last call.

    `code`: its exit code once it has ended and every line is here, with its `complaints`.
    """

    lines: list[bytes]
    code: int | None = None
    complaints: str = ""


class Node(Protocol):
    """A machine that runs jobs: worker processes, each with a share of a block.

    Every method raises NodeLost where the node is gone, or does not answer for `SILENCE_S`; `start`
    waits `START_S` longer. `id`: of the cluster's engine.
    """

    @property
    def id(self) -> str:
        """Its name in the cluster."""

    @property
    def facts(self) -> NodeFacts:
        """What it says of itself."""

    async def clock(self) -> ClockOffset:
        """Its clock against ours, now."""

    async def start(self, work: bytes) -> tuple[int, bytes]:
        """Starts a worker on `work`, a pickle. Returns the job's number and its first line.

        The line is empty where the worker ended without one.
        """

    async def order(self, job: int, line: str) -> None:
        """Writes a line of orders to a job's worker; nothing where that has ended."""

    async def messages(self, job: int) -> NodeMessages:
        """What a job's worker says, after a short while or its end."""

    async def piece(self, job: int, offset: int) -> bytes:
        """A piece of the journal that a job's worker wrote; empty at its end."""

    async def end(self, job: int) -> None:
        """Ends a job's worker, whatever it does, and removes its files."""
