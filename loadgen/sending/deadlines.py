"""The first deadline that a request missed, or None."""

from __future__ import annotations

import asyncio
import time

from foundation.run.records import Failure
from loadgen.config import Deadlines
from loadgen.protocol.reply import Reply
from loadgen.transport.exchange import Exchange

_NS = 1_000_000_000


def overdue(
    exchange: Exchange, reply: Reply, deadlines: Deadlines, now_ns: int
) -> tuple[Failure | None, int]:
    """The failure class of the deadline missed at `now_ns`, or None and the time (ns) to look
    again.

    `connect`, `first` and `total` run from the start of the exchange, `stall` from the last content
    chunk. So a server stalls even if it keeps a dead stream open with comments.
    """
    total = exchange.started_ns + int(deadlines.total * _NS)
    if not exchange.connected:
        failure: Failure = "timeout_connect"
        limit = exchange.started_ns + int(deadlines.connect * _NS)
    elif not reply.chunk_at_ns:
        failure, limit = "timeout_first", exchange.started_ns + int(deadlines.first * _NS)
    else:
        failure, limit = "timeout_stall", reply.chunk_at_ns[-1] + int(deadlines.stall * _NS)
    if total < limit:
        failure, limit = "timeout_total", total
    return (failure, limit) if now_ns >= limit else (None, limit)


class Watch:
    """Cancels a task when its exchange misses a deadline. `missed`: the class of that deadline.

    It looks only when a deadline may have passed, so a fast and successful request costs one timer.
    """

    def __init__(
        self, task: asyncio.Task[object], exchange: Exchange, reply: Reply, deadlines: Deadlines
    ) -> None:
        self.missed: Failure | None = None
        self._task, self._exchange, self._reply, self._deadlines = task, exchange, reply, deadlines
        self._loop = asyncio.get_running_loop()
        soonest = min(deadlines.connect, deadlines.first, deadlines.stall, deadlines.total)
        self._look_at(exchange.started_ns + int(soonest * _NS), exchange.started_ns)

    def stop(self) -> None:
        """Stops looking."""
        self._timer.cancel()

    def _look_at(self, at_ns: int, now_ns: int) -> None:
        self._timer = self._loop.call_later(max(0, at_ns - now_ns) / _NS, self._look)

    def _look(self) -> None:
        self._exchange.digest()  # the chunk that keeps the deadline may not be parsed yet
        now_ns = time.monotonic_ns()
        failure, at_ns = overdue(self._exchange, self._reply, self._deadlines, now_ns)
        if failure is None:  # a stream may begin and stall before `at_ns`
            self._look_at(min(at_ns, now_ns + int(self._deadlines.stall * _NS)), now_ns)
        else:
            self.missed = failure
            self._task.cancel()
