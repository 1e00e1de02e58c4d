"""Plain HTTP/1.1 over our own sockets, which gives the kernel's receive stamp of the bytes.

An engine step sends its whole batch at once. An event loop reads the last of it milliseconds after
its arrival. The kernel's stamp does not depend on the loop.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from foundation.http.connections import KEEP_ALIVE_S
from foundation.http.endpoint import Endpoint, merged_headers
from foundation.run.records import ReceiverKind
from loadgen.transport.clocks import KernelClock
from loadgen.transport.connection import Connection, StaleConnection
from loadgen.transport.exchange import BrokenExchange, Exchange
from loadgen.transport.key_headers import KEY, key_headers
from loadgen.transport.receiver import open_receiver

_SO_TIMESTAMPNS = getattr(socket, "SO_TIMESTAMPNS", 35)
_CLOCK_CHECK_S = 1.0

Address = tuple[socket.AddressFamily, Any]


class SocketTransport:
    """A pool of keep-alive connections to an `http://` or `http+unix://` endpoint."""

    name = "socket"
    receiver: ReceiverKind | None = None

    def __init__(self, endpoint: Endpoint) -> None:
        url = urlsplit(endpoint.base_url)
        self._endpoint = endpoint
        self._unix = endpoint.unix_socket
        self._host, self._port = url.hostname or "", url.port or 80
        self._addresses: list[Address] = []
        own_fields = {
            "Host": "localhost" if self._unix else url.netloc,
            "User-Agent": "tunedyno",
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",
        }
        fields = merged_headers(own_fields, endpoint.headers)
        self._fields = _lines(fields)
        self._key_fields = _lines(key_headers(endpoint))
        self._idle: list[Connection] = []
        self.clock: Literal["kernel", "user"] = (
            "kernel" if sys.platform == "linux" and not self._unix else "user"
        )

    async def __aenter__(self) -> Self:
        self._kernel_clock = KernelClock()
        self._loop = asyncio.get_running_loop()
        self._receiver = open_receiver(self._kernel_clock)
        self.receiver = self._receiver.kind
        self._timer = self._loop.call_later(_CLOCK_CHECK_S, self._check_clock)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        while self._idle:
            self._idle.pop().close()
        self._receiver.close()

    @property
    def clock_step_ns(self) -> int:
        """How far the kernel's clock was set against CLOCK_MONOTONIC so far, ns."""
        self._kernel_clock.refresh()
        return self._kernel_clock.step_ns

    async def send(self, exchange: Exchange, path: str, body: bytes | None) -> None:
        """Sends one request, as `Transport.send` says."""
        message = self._message(path, body, exchange.key)
        connection = self._reusable()
        if connection is not None:
            exchange.connected = True
            try:
                await self._converse(connection, exchange, message)
                return
            except StaleConnection:
                pass  # the server closed it before it answered anything, so send again
        connection = await self._connect()
        exchange.connected = True
        await self._converse(connection, exchange, message)

    async def _converse(self, connection: Connection, exchange: Exchange, message: bytes) -> None:
        try:
            await connection.ask(exchange, message)
        finally:
            if connection.reusable:
                connection.idle_since = self._loop.time()
                self._idle.append(connection)
            else:
                connection.close()

    def _message(self, path: str, body: bytes | None, key: str) -> bytes:
        target = self._endpoint.target(path)
        fields = self._fields + self._key_fields.replace(KEY, key) if key else self._fields
        if body is None:
            return f"GET {target} HTTP/1.1\r\n{fields}\r\n".encode()
        length = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return f"POST {target} HTTP/1.1\r\n{fields}{length}".encode() + body

    def _reusable(self) -> Connection | None:
        """The connection used last that is still open and was not idle for too long."""
        oldest = self._loop.time() - KEEP_ALIVE_S
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and connection.idle_since > oldest:
                return connection
            connection.close()
        return None

    async def _connect(self) -> Connection:
        problem = "no address"
        for address in await self._resolve():
            try:
                sock = socket.socket(address[0], socket.SOCK_STREAM)
            except OSError as error:  # this process has no file descriptor left
                raise BrokenExchange("connect", f"{type(error).__name__}: {error}") from error
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
                return Connection(sock, self._receiver)
        raise BrokenExchange("connect", f"{self._unix or f'{self._host}:{self._port}'}: {problem}")

    async def _resolve(self) -> list[Address]:
        """The addresses of the host, in the resolver's order.

        They are resolved once. After that only the address that answered is kept.
        """
        if self._unix is not None:
            return [(socket.AF_UNIX, self._unix)]
        if not self._addresses:
            try:
                entries = await self._loop.getaddrinfo(
                    self._host, self._port, type=socket.SOCK_STREAM
                )
            except (OSError, UnicodeError) as error:
                raise BrokenExchange("connect", f"{self._host}: {error}") from error
            self._addresses = [(family, address) for family, _, _, _, address in entries]
        return self._addresses

    def _check_clock(self) -> None:
        self._kernel_clock.refresh()
        self._timer = self._loop.call_later(_CLOCK_CHECK_S, self._check_clock)


def _lines(fields: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in fields.items())
