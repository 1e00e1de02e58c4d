"""One client's connection to the emulator: it reads requests, and writes and stamps bytes at
once.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Request:
    """A whole request, and the time its last bytes were read. `fields`: headers, names in small
    letters.
    """

    method: str
    path: str
    fields: dict[str, str]
    body: bytes
    arrived_ns: int


class ClientConnection:
    """A keep-alive HTTP/1.1 connection.

    `send` writes straight to the socket, so its stamp is the true time.
    """

    __slots__ = (
        "_incoming",
        "_loop",
        "_on_closed",
        "_on_request",
        "_socket",
        "_unsent",
        "_write_some",
        "handle",
        "open",
    )

    def __init__(
        self,
        sock: socket.socket,
        on_request: Callable[[ClientConnection, Request], None],
        on_closed: Callable[[ClientConnection], None],
    ) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if sys.platform == "linux":
                # Other algorithms may delay bytes to pace them, and then the stamp would be wrong.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
        self.open = True
        self.handle = sock.fileno()
        self._socket = sock
        self._write_some = sock.send
        self._on_request, self._on_closed = on_request, on_closed
        self._loop = asyncio.get_running_loop()
        self._incoming = bytearray()
        self._unsent = bytearray()
        self._loop.add_reader(sock, self._read)

    def send(self, data: bytes) -> int:
        """Writes, and returns the time (CLOCK_MONOTONIC, ns) just before.

        Bytes that the kernel has no room for are written when it has.
        """
        if not self.clear:
            self._unsent += data
            return time.monotonic_ns()
        now_ns = time.monotonic_ns()
        try:
            sent = self._write_some(data)
        except OSError as error:
            sent = -(error.errno or errno.EIO)
        if sent < len(data):
            self.follow_up(data, sent)
        return now_ns

    def follow_up(self, data: bytes, sent: int) -> None:
        """Handles a write that did not take all of `data`.

        `sent`: the bytes that were taken, or a negative errno.
        """
        if sent < 0 and sent not in (-errno.EAGAIN, -errno.EINTR):
            self.close()
        else:
            self._unsent += data[max(0, sent) :]
            self._loop.add_writer(self._socket, self._write)

    @property
    def clear(self) -> bool:
        """Whether bytes can go straight to the kernel."""
        return self.open and not self._unsent

    def reset(self) -> None:
        """Closes with RST instead of FIN."""
        if self.open:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.close()

    def close(self) -> None:
        """Closes the connection and reports it."""
        if self.open:
            self.open = False
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._on_closed(self)

    def _write(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self._socket)

    def _read(self) -> None:
        try:
            data = self._socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        now_ns = time.monotonic_ns()
        if not data:
            self.close()
            return
        self._incoming += data
        while self.open and (request := self._take(now_ns)) is not None:
            self._on_request(self, request)

    def _take(self, now_ns: int) -> Request | None:
        end = self._incoming.find(b"\r\n\r\n")
        if end < 0:
            return None
        lines = bytes(self._incoming[:end]).decode("latin-1").split("\r\n")
        fields = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:])
        }
        size = int(fields.get("content-length", "0"))
        if len(self._incoming) < end + 4 + size:
            return None
        body = bytes(self._incoming[end + 4 : end + 4 + size])
        del self._incoming[: end + 4 + size]
        method, path, _ = lines[0].split(" ", 2)
        return Request(method, path, fields, body, now_ns)
