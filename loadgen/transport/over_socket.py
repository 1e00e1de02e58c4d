"""Plain HTTP/1.1 over own sockets, so that the kernel's receive stamp comes with the bytes.

An engine step sends its whole batch at once, and an event loop reads the last of it milliseconds after it arrived. The stamp
that the kernel put on the bytes does not wait for the loop.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import unquote, urlsplit

from foundation.endpoint import Endpoint
from loadgen.exchange import Broken, Exchange
from loadgen.transport.chunked import ChunkedDecoder
from loadgen.transport.clocks import KernelClock
from loadgen.transport.head import HEAD_LIMIT, Head, parse_head
from results.records import Failure

# A connection idle for longer is not used again: uvicorn closes at 5 s, and a request that crosses the close is lost.
KEEP_ALIVE_S = 3.0
_SO_TIMESTAMPNS = getattr(socket, "SO_TIMESTAMPNS", 35)
_STAMP = struct.Struct("@ll")
_STAMP_SPACE = socket.CMSG_SPACE(_STAMP.size)
_READ = 32 * 1024
_CLOCK_CHECK_S = 1.0

Address = tuple[socket.AddressFamily, Any]


class SocketTransport:
    """A pool of keep-alive connections to an `http://` or `http+unix://` endpoint."""

    name = "socket"

    def __init__(self, endpoint: Endpoint) -> None:
        url = urlsplit(endpoint.base_url)
        self._unix = unquote(url.netloc) if url.scheme == "http+unix" else None
        self._host, self._port = url.hostname or "", url.port or 80
        self._path = url.path
        self._addresses: list[Address] = []
        fields = {
            "Host": "localhost" if self._unix else url.netloc.rpartition("@")[2],
            "User-Agent": "tunedyno",
            "Accept": "text/event-stream",
            **endpoint.headers,
        }
        self._fields = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._idle: list[_Connection] = []
        self.clock: Literal["kernel", "user"] = "kernel" if sys.platform == "linux" and not self._unix else "user"

    async def __aenter__(self) -> Self:
        self._kernel_clock = KernelClock()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(_CLOCK_CHECK_S, self._check_clock)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._timer.cancel()
        while self._idle:
            self._idle.pop().close()

    @property
    def clock_step_ns(self) -> int:
        self._kernel_clock.refresh()
        return self._kernel_clock.step_ns

    async def send(self, exchange: Exchange, path: str, body: bytes | None) -> None:
        message = self._message(path, body)
        connection = self._reusable()
        if connection is not None:
            exchange.connected = True
            try:
                await self._converse(connection, exchange, message)
                return
            except _Stale:
                pass  # the server closed it while the request was on its way: nothing was answered, so ask again
        connection = await self._connect()
        exchange.connected = True
        await self._converse(connection, exchange, message)

    async def _converse(self, connection: _Connection, exchange: Exchange, message: bytes) -> None:
        try:
            await connection.ask(exchange, message)
        finally:
            if connection.reusable:
                connection.idle_since = self._loop.time()
                self._idle.append(connection)
            else:
                connection.close()

    def _message(self, path: str, body: bytes | None) -> bytes:
        if body is None:
            return f"GET {self._path}{path} HTTP/1.1\r\n{self._fields}\r\n".encode()
        length = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return f"POST {self._path}{path} HTTP/1.1\r\n{self._fields}{length}".encode() + body

    def _reusable(self) -> _Connection | None:
        """The connection used last, less those that were closed or have been idle for too long."""
        oldest = self._loop.time() - KEEP_ALIVE_S
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and connection.idle_since > oldest:
                return connection
            connection.close()
        return None

    async def _connect(self) -> _Connection:
        problem = "no address"
        for address in await self._resolve():
            sock = socket.socket(address[0], socket.SOCK_STREAM)
            sock.setblocking(False)
            try:
                if self._unix is None:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self.clock == "kernel":
                    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
                await self._loop.sock_connect(sock, address[1])
            except OSError as error:
                sock.close()
                problem = f"{type(error).__name__}: {error}"
            except BaseException:
                sock.close()
                raise
            else:
                self._addresses = [address]
                return _Connection(sock, self._kernel_clock)
        raise Broken("connect", f"{self._unix or f'{self._host}:{self._port}'}: {problem}")

    async def _resolve(self) -> list[Address]:
        """The addresses of the host, in the resolver's order; asked once, and then only the one that answered is kept."""
        if self._unix is not None:
            return [(socket.AF_UNIX, self._unix)]
        if not self._addresses:
            try:
                found = await self._loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            except OSError as error:
                raise Broken("connect", f"{self._host}: {error}") from error
            self._addresses = [(family, address) for family, _, _, _, address in found]
        return self._addresses

    def _check_clock(self) -> None:
        self._kernel_clock.refresh()
        self._timer = self._loop.call_later(_CLOCK_CHECK_S, self._check_clock)


class _Stale(Exception):
    """A kept connection turned out to be closed before any answer came."""


class _Connection:
    """One connection: a request at a time, its response handed to the exchange as raw stamped pieces."""

    def __init__(self, sock: socket.socket, clock: KernelClock) -> None:
        self.reusable = False
        self.idle_since = 0.0
        self._socket, self._clock = sock, clock
        self._receive = sock.recvmsg
        self._used = False
        self._open = True
        self._loop = asyncio.get_running_loop()
        self._exchange: Exchange | None = None
        self._over: asyncio.Future[None]
        self._unsent = b""
        self._start()
        self._loop.add_reader(sock, self._readable)

    def _start(self) -> None:
        """Ready for the next response."""
        self._head: Head | None = None
        self._head_bytes = b""
        self._left = 0
        self._chunks: ChunkedDecoder | None = None
        self._answered = False

    async def ask(self, exchange: Exchange, message: bytes) -> None:
        """Send `message` and return when the response is over. Raises Broken or _Stale."""
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
        if self._open:
            self._open = self.reusable = False
            self._loop.remove_reader(self._socket)
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

    def _readable(self) -> None:
        try:
            data, ancillary, _, _ = self._receive(_READ, _STAMP_SPACE)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(self._lost(error))
            return
        read_ns = time.monotonic_ns()
        exchange = self._exchange
        if exchange is None or not data:
            self._closed_by_server(exchange)
            return
        arrived_ns = read_ns
        if ancillary:
            seconds, nanos = _STAMP.unpack(ancillary[0][2])
            arrived_ns = seconds * 1_000_000_000 + nanos + self._clock.offset_ns
        if self._head is None:
            self._answered = True
            data = self._read_head(exchange, data)
            if not data:
                return
        if self._chunks is None:
            self._read_plain(exchange, data, arrived_ns, read_ns)
            return
        exchange.received(data, arrived_ns, read_ns)
        # Every chunked body ends so. Looking closer waits until it may have ended.
        if data[-4:] == b"\r\n\r\n" or len(data) < 4:
            self._look_for_end(exchange, self._chunks)

    def _read_head(self, exchange: Exchange, data: bytes) -> bytes:
        """Take the head off; what is left is body. Interim (1xx) responses are skipped."""
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
        exchange.status = self._head.status
        if self._head.chunked:
            self._chunks = ChunkedDecoder()
            exchange.decode = self._chunks.feed
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
        """A body that is not chunked: of a known length, or as long as the connection."""
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
        """The response is whole. Bytes beyond it are nobody's, and end the connection's usefulness."""
        assert self._head is not None
        if surplus:
            self._break("malformed", "the server sent more than its response")
        elif not self._over.done():
            self.reusable = self._head.keep_alive
            self._over.set_result(None)

    def _closed_by_server(self, exchange: Exchange | None) -> None:
        """The connection ended, or an idle one said something."""
        if exchange is None:
            self.close()
        elif self._head is None:
            self._fail(_Stale() if self._used and not self._answered else Broken("reset", "closed before the response"))
        elif self._chunks is not None or self._head.length is not None:
            self._break("truncated", "closed before the end of the response")
        else:
            self._finish()

    def _break(self, failure: Failure, detail: str) -> None:
        self._fail(Broken(failure, detail))

    def _lost(self, error: OSError) -> Exception:
        if self._used and not self._answered:
            return _Stale()
        return Broken("reset", f"{type(error).__name__}: {error}")

    def _fail(self, error: Exception) -> None:
        exchange = self._exchange
        self.close()
        if exchange is not None and not self._over.done():
            self._over.set_exception(error)
