"""What a transport hands over: one request's life on the wire, as stamped pieces of the response body."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from results.records import Failure

# Bytes held unparsed per request, at most: parsing waits until the event loop has read what there is, memory does not wait.
_HOLD = 64 * 1024
_SLICE_NS = 200_000
_SETTLE_S = 0.002
_SOON_NS = 30_000_000


class Sink(Protocol):
    """Takes the body of a response, in order."""

    def feed(self, data: bytes, arrived_ns: int, read_ns: int) -> None: ...


class Broken(Exception):
    """The exchange did not end as HTTP says it should. `failure` is its class."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure


class Backlog:
    """Exchanges with bytes to parse. It begins when nothing has come for a moment, or soon anyway, and works in short slices.

    An engine step sends its batch at once: what is parsed before all of it was read keeps the rest waiting.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Exchange] = deque()
        self._calm = True
        self._soon_ns = 0

    def add(self, exchange: Exchange) -> None:
        if not self._waiting:
            self._soon_ns = time.monotonic_ns() + _SOON_NS
            self._loop.call_later(_SETTLE_S, self._begin)
        self._calm = False
        self._waiting.append(exchange)

    def _begin(self) -> None:
        if self._calm or time.monotonic_ns() > self._soon_ns:
            self._work()
        else:
            self._calm = True
            self._loop.call_later(_SETTLE_S, self._begin)

    def _work(self) -> None:
        until_ns = time.monotonic_ns() + _SLICE_NS
        while self._waiting:
            if time.monotonic_ns() > until_ns:
                self._loop.call_soon(self._work)
                return
            self._waiting.popleft().digest()


class Exchange:
    """One request and its response. A transport sets the stamps (CLOCK_MONOTONIC, ns), the status, and calls `received`.

    `decode` takes the transfer coding off the body where there is one; like parsing, it waits until `digest`.
    """

    __slots__ = ("_backlog", "_held", "_held_bytes", "_sink", "connected", "decode", "garbled", "sent_ns", "started_ns", "status")

    def __init__(self, sink: Sink, started_ns: int, backlog: Backlog) -> None:
        self.started_ns = started_ns
        self.connected = False
        self.sent_ns: int | None = None
        self.status: int | None = None
        self.decode: Callable[[bytes], bytes] | None = None
        self.garbled: str | None = None
        self._sink = sink
        self._backlog = backlog
        self._held: list[tuple[bytes, int, int]] = []
        self._held_bytes = 0

    def received(self, data: bytes, arrived_ns: int, read_ns: int) -> None:
        """Bytes of the body, the arrival of the last of them, and when the event loop had them."""
        if not self._held:
            self._backlog.add(self)
        self._held.append((data, arrived_ns, read_ns))
        self._held_bytes += len(data)
        if self._held_bytes > _HOLD:
            self.digest()

    def digest(self) -> None:
        """Hand what is held to the sink. Nothing goes there from where the coding is wrong; `garbled` then says how."""
        held, self._held, self._held_bytes = self._held, [], 0
        feed, decode = self._sink.feed, self.decode
        for data, arrived_ns, read_ns in held:
            if self.garbled is not None:
                return
            if decode is not None:
                try:
                    data = decode(data)
                except ValueError as error:
                    self.garbled = str(error)
                    return
            if data:
                feed(data, arrived_ns, read_ns)
