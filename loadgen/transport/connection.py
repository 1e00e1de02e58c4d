"""One keep-alive connection of the socket transport.

It carries one request at a time and passes the response to the exchange as raw pieces.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time

from foundation.run.records import Failure
from loadgen.transport.chunked_coding import ChunkedDecoder
from loadgen.transport.content_coding import inflater
from loadgen.transport.exchange import BrokenExchange, Exchange
from loadgen.transport.head import HEAD_LIMIT, Head, parse_head
from loadgen.transport.receiver import CLOSED, PLENTY, Receiver, may_end


class StaleConnection(Exception):
    """The server closed a kept connection before any answer came."""


class Connection:
    """Parses heads, and bodies that are not chunked, piece by piece.

    Of a chunked body it sees only the pieces that may end it.
    """

    def __init__(self, sock: socket.socket, receiver: Receiver) -> None:
        self.reusable = False
        self.idle_since = 0.0
        self._socket, self._receiver = sock, receiver
        self._used = False
        self._open = True
        self._loop = asyncio.get_running_loop()
        self._exchange: Exchange | None = None
        self._over: asyncio.Future[None]
        self._unsent = b""
        # Pieces that are still to be parsed here, their arrivals, and when they were read.
        self._fresh: tuple[list[bytes], list[int], list[int]] = ([], [], [])
        receiver.watch(sock, self)
        receiver.deliver(sock, *self._fresh, True)
        self._start()

    def _start(self) -> None:
        """Makes ready for the next response."""
        self._head: Head | None = None
        self._head_bytes = b""
        self._left = 0
        self._chunks: ChunkedDecoder | None = None
        self._answered = False

    async def ask(self, exchange: Exchange, message: bytes) -> None:
        """Sends `message` and returns when the response is over. Raises BrokenExchange or
        StaleConnection.
        """
        self._start()
        self.reusable = False
        self._exchange, self._over = exchange, self._loop.create_future()
        try:
            self._send(message)
            await self._over
        except OSError as error:
            raise self._lost(error) from error
        finally:
            self._exchange = None
            self._used = True

    def close(self) -> None:
        """Closes the socket."""
        if self._open:
            self._open = self.reusable = False
            self._receiver.forget(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()

    def _send(self, data: bytes) -> None:
        assert self._exchange is not None
        sent_ns = time.monotonic_ns()
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            self._exchange.sent_ns = sent_ns
        else:
            self._unsent = data[sent:]
            self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        self._loop.remove_writer(self._socket)
        if self._exchange is not None:
            try:
                self._send(self._unsent)
            except OSError as error:
                self._fail(self._lost(error))

    def notice(self, what: int) -> None:
        """Called by the receiver when bytes came in, or the connection ended."""
        exchange = self._exchange
        if exchange is None or self._over.done():
            # An idle connection ended, or got bytes. Any other notice here is a late one.
            if what >= CLOSED or self._fresh[0]:
                self.close()
            return
        if self._fresh[0]:
            self._take_fresh(exchange)
        elif what == PLENTY:
            exchange.digest_soon()
        elif self._chunks is not None:
            self._look_for_end(exchange, self._chunks)
        if what >= CLOSED:
            self._ended(what)

    def _take_fresh(self, exchange: Exchange) -> None:
        fresh = list(zip(*self._fresh, strict=True))
        for values in self._fresh:
            values.clear()
        for data, arrived_ns, read_ns in fresh:
            if self._over.done():  # bytes beyond the response
                self.close()
                return
            self._take(exchange, data, arrived_ns, read_ns)

    def _take(self, exchange: Exchange, data: bytes, arrived_ns: int, read_ns: int) -> None:
        if self._head is None:
            self._answered = True
            data = self._read_head(exchange, data)
            if not data:
                return
        if self._chunks is None:
            self._read_plain(exchange, data, arrived_ns, read_ns)
            return
        exchange.received(data, arrived_ns, read_ns)
        if may_end(data):
            self._look_for_end(exchange, self._chunks)

    def _read_head(self, exchange: Exchange, data: bytes) -> bytes:
        """Parses the head and returns the bytes after it. Interim (1xx) responses are skipped."""
        data = self._head_bytes + data
        while self._head is None:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > HEAD_LIMIT or not data.startswith(b"HTTP/1."[: len(data)]):
                    self._break("malformed", f"not HTTP/1.1: {data[:60]!r}")
                    return b""
                self._head_bytes = data
                return b""
            try:
                head = parse_head(data[:end])
            except ValueError as error:
                self._break("malformed", str(error))
                return b""
            data = data[end + 4 :]
            if head.status >= 200:
                self._head = head
        exchange.status, exchange.location = self._head.status, self._head.location
        exchange.compression = inflater(self._head.compression)
        if self._head.chunked:
            self._chunks = exchange.chunks = ChunkedDecoder()
            self._receiver.deliver(
                self._socket, exchange.pieces, exchange.arrived_ns, exchange.read_ns, False
            )
        elif self._head.length is not None:
            self._left = self._head.length
            if not data and not self._left:
                self._finish()
        return data

    def _look_for_end(self, exchange: Exchange, chunks: ChunkedDecoder) -> None:
        exchange.digest()
        if exchange.garbled is not None:
            self._break("malformed", exchange.garbled)
        elif chunks.finished:
            self._finish(surplus=chunks.surplus)

    def _read_plain(self, exchange: Exchange, data: bytes, arrived_ns: int, read_ns: int) -> None:
        """Takes a body that is not chunked: of known length, or as long as the connection."""
        if self._head is None or self._head.length is None:
            exchange.received(data, arrived_ns, read_ns)
            return
        if body := data[: self._left]:
            exchange.received(body, arrived_ns, read_ns)
        surplus = len(data) > self._left
        self._left -= len(body)
        if not self._left:
            self._finish(surplus)

    def _finish(self, surplus: bool = False) -> None:
        """Ends a whole response. Bytes after it belong to none, so the connection is closed."""
        assert self._head is not None
        if surplus:
            self._break("malformed", "the server sent more than its response")
        elif not self._over.done():
            self.reusable = self._head.keep_alive
            self._over.set_result(None)
            self._receiver.deliver(self._socket, *self._fresh, True)

    def _ended(self, what: int) -> None:
        """The connection ended, or failed with an errno."""
        if self._over.done():
            self.close()
        elif what != CLOSED:
            self._fail(self._lost(OSError(what, os.strerror(what))))
        elif self._head is None:
            self._fail(
                StaleConnection()
                if self._used and not self._answered
                else BrokenExchange("reset", "closed before the response")
            )
        elif self._chunks is not None or self._head.length is not None:
            self._break("truncated", "closed before the end of the response")
        else:
            self._finish()

    def _break(self, failure: Failure, detail: str) -> None:
        self._fail(BrokenExchange(failure, detail))

    def _lost(self, error: OSError) -> Exception:
        if self._used and not self._answered:
            return StaleConnection()
        return BrokenExchange("reset", f"{type(error).__name__}: {error}")

    def _fail(self, error: Exception) -> None:
        exchange = self._exchange
        self.close()
        if exchange is not None and not self._over.done():
            self._over.set_exception(error)
