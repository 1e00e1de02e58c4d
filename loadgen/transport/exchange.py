"""One request and its response on the wire, as stamped pieces of the response body."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Protocol

from foundation.run.records import Failure, Note

# Pieces that are parsed together where nothing needs the answer sooner. A stream's objects then
# enter the CPU's cache only once.
ENOUGH = 32
# The most unparsed bytes that a request may hold. Parsing waits until the event loop has read the
# sockets, but memory has a bound.
HOLD = 64 * 1024
_SLICE_NS = 200_000
_SETTLE_S = 0.002
_SOON_NS = 30_000_000
# Requests that may be finished between two reads of the sockets.
_AT_ONCE = 4


class Sink(Protocol):
    """Takes the body of a response, in order."""

    def feed(self, pieces: list[bytes], arrived_ns: list[int], read_ns: list[int]) -> None:
        """Takes the next pieces, the arrival of each (of its last byte), and when the event loop
        had it.
        """


class Coding(Protocol):
    """A transfer or content coding of a body."""

    def take_off(self, pieces: list[bytes]) -> list[bytes]:
        """The contents of each piece. Fewer than the pieces where the coding is wrong.

        Then `wrong` says how.
        """

    wrong: str | None


class BrokenExchange(Exception):
    """The exchange did not end properly as HTTP. `failure` is its class."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure


class Backlog:
    """Work that waits until the sockets were read: bytes to parse, and requests to finish.

    An engine step sends its batch at once, and answers of one length end at once. Work done before
    all of it was read would delay the rest. Parsing begins a moment later. While a transport
    delivers single pieces, it begins when none came for a moment, but soon in any case. It works in
    short slices.
    """

    def __init__(self) -> None:
        self.calm = True
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Exchange] = deque()
        self._soon_ns = 0
        self._ended: deque[asyncio.Future[None]] = deque()
        self._let_through = 0

    def add(self, exchange: Exchange) -> None:
        """Puts an exchange in the queue to be parsed."""
        if not self._waiting:
            self._soon_ns = time.monotonic_ns() + _SOON_NS
            self._loop.call_later(_SETTLE_S, self._begin)
        self._waiting.append(exchange)

    async def turn(self) -> None:
        """Waits while many other requests are being finished.

        A request that ends alone does not wait.
        """
        if not self._let_through:
            self._loop.call_soon(self._next_turn)
        if self._let_through < _AT_ONCE:
            self._let_through += 1
        else:
            self._ended.append(waiter := self._loop.create_future())
            await waiter

    def _next_turn(self) -> None:
        self._let_through = 0
        while self._ended and self._let_through < _AT_ONCE:
            if not (waiter := self._ended.popleft()).done():  # cancelled meanwhile
                waiter.set_result(None)
                self._let_through += 1
        if self._let_through:
            self._loop.call_soon(self._next_turn)

    def _begin(self) -> None:
        if self.calm or time.monotonic_ns() > self._soon_ns:
            self._work()
        else:
            self.calm = True
            self._loop.call_later(_SETTLE_S, self._begin)

    def _work(self) -> None:
        until_ns = time.monotonic_ns() + _SLICE_NS
        while self._waiting:
            if time.monotonic_ns() > until_ns:
                self._loop.call_soon(self._work)
                return
            self._waiting.popleft().digest()


class Exchange:
    """One request and its response. A transport sets the stamps (CLOCK_MONOTONIC, ns), status and
    redirect.

    `key`: the request's `request_key`, which its headers carry; empty for a request without one.
    Pieces of the body lie in `pieces`, beside them the arrivals of their last bytes and the times
    they were read, until `digest` passes them to the sink. A transport appends to these very lists,
    or calls `received`. `chunks` decodes the transfer coding if there is one, then `compression`
    the content coding. Both wait, like parsing.
    """

    __slots__ = (
        "_backlog", "_held", "_sink", "arrived_ns", "chunks", "compression", "connected", "key",
        "location", "pieces", "read_ns", "sent_ns", "started_ns", "status",
    )  # fmt: skip

    def __init__(self, sink: Sink, started_ns: int, backlog: Backlog, key: str = "") -> None:
        self.started_ns = started_ns
        self.key = key
        self.connected = False
        self.sent_ns: int | None = None
        self.status: int | None = None
        self.location: str | None = None
        self.chunks: Coding | None = None
        self.compression: Coding | None = None
        # Three lists of plain values, because the garbage collector would count a tuple for each
        # piece.
        self.pieces: list[bytes] = []
        self.arrived_ns: list[int] = []
        self.read_ns: list[int] = []
        self._held = 0
        self._sink = sink
        self._backlog = backlog

    @property
    def garbled(self) -> str | None:
        """Why a coding of the body is wrong, or None. The sink gets nothing after that point."""
        if self.chunks is not None and self.chunks.wrong is not None:
            return self.chunks.wrong
        return None if self.compression is None else self.compression.wrong

    @property
    def notes(self) -> list[Note]:
        """Oddities of the body that are no failure."""
        return [] if self.compression is None else ["compressed"]

    def received(self, data: bytes, arrived_ns: int, read_ns: int) -> None:
        """Takes a piece of the body from a transport that reads pieces one by one."""
        self._backlog.calm = False
        self.pieces.append(data)
        self.arrived_ns.append(arrived_ns)
        self.read_ns.append(read_ns)
        self._held += len(data)
        if len(self.pieces) == ENOUGH:
            self.digest_soon()
        elif self._held > HOLD:
            self.digest()

    def digest_soon(self) -> None:
        """Puts the held pieces in the queue to be parsed."""
        self._backlog.add(self)

    def digest(self) -> None:
        """Passes the held pieces to the sink."""
        pieces, arrived_ns, read_ns = self.pieces[:], self.arrived_ns[:], self.read_ns[:]
        if not pieces or self.garbled is not None:
            return
        self.pieces.clear()
        self.arrived_ns.clear()
        self.read_ns.clear()
        self._held = 0
        if self.chunks is not None:
            pieces = self.chunks.take_off(pieces)
        if self.compression is not None:
            pieces = self.compression.take_off(pieces)
        self._sink.feed(pieces, arrived_ns, read_ns)
