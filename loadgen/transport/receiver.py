"""Reads the sockets: a compiled reader where it could be built (Linux), else the same in Python.

Both put the bytes of a socket, with their stamps, into lists. They notify the socket's owner only
when it has something to do: most pieces of a stream can wait until they are parsed.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from typing import Protocol

from foundation.run.records import ReceiverKind
from loadgen.transport.clocks import KernelClock
from loadgen.transport.exchange import ENOUGH, HOLD

KIND: ReceiverKind = "compiled"
"""Which of the two this installation has."""
try:
    from loadgen._compiled import Receiver as _Core
except ImportError:
    KIND = "python"

# Notices to an owner, beside the number of an error: the stream ended, there may be something to
# parse now, there is enough to parse. The compiled reader has the same numbers.
CLOSED, LOOK, PLENTY = 0, -1, -2

_STAMP = struct.Struct("@ll")
_STAMP_SPACE = socket.CMSG_SPACE(_STAMP.size) if hasattr(socket, "CMSG_SPACE") else 0
_READ = 32 * 1024
# After `_LOOKS` reads within `_BUSY_NS`, reading costs more than it brings. Then there is one read
# a millisecond, as long as that finds many ready sockets.
_LOOKS = 4
_BUSY_NS = 250_000
_REST_S = 0.001
# How long owners are notified before other work of the event loop has its turn.
_SLICE_NS = 100_000


class Owner(Protocol):
    """Owns a socket and takes the receiver's notices about it."""

    def notice(self, what: int) -> None:
        """Takes CLOSED, LOOK, PLENTY or an errno. Pieces before an end are in the lists already.

        A notice may come a moment after the bytes, and be about bytes that an earlier notice led
        to.
        """


class Receiver(Protocol):
    """Reads sockets between `watch` and `forget`.

    `deliver` sets the lists for a socket's pieces, their arrivals and the times they were read
    (CLOCK_MONOTONIC, ns). With `each` the owner is notified of every piece. Without it, of pieces
    that may end a chunked body, of ENOUGH pieces, and of a piece that brings the held bytes over
    HOLD.
    """

    kind: ReceiverKind

    def watch(self, sock: socket.socket, owner: Owner) -> None:
        """Starts to read a socket."""

    def deliver(
        self,
        sock: socket.socket,
        pieces: list[bytes],
        arrived_ns: list[int],
        read_ns: list[int],
        each: bool,
    ) -> None:
        """Sets the lists that a socket's pieces and stamps go into."""

    def forget(self, sock: socket.socket) -> None:
        """Stops reading a socket."""

    def close(self) -> None:
        """Stops reading all sockets."""


def may_end(data: bytes) -> bool:
    """Whether a chunked body may end with this piece: a last chunk always ends so."""
    return data[-4:] == b"\r\n\r\n" or len(data) < 4


def open_receiver(clock: KernelClock) -> Receiver:
    """The receiver of this installation."""
    return CompiledReceiver(clock) if KIND == "compiled" else PythonReceiver(clock)


class CompiledReceiver:
    """All sockets of a transport behind one epoll descriptor, which the event loop watches."""

    kind: ReceiverKind = "compiled"

    def __init__(self, clock: KernelClock) -> None:
        self._clock = clock
        self._core = _Core(ENOUGH, HOLD)
        self._read_at_ns = deque([0] * _LOOKS, maxlen=_LOOKS)
        self._notices: deque[tuple[Owner, int]] = deque()
        self._due = self._closed = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._core.fileno(), self._ready)
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, sock: socket.socket, owner: Owner) -> None:
        """Starts to read a socket."""
        self._core.watch(sock.fileno(), owner)

    def deliver(
        self,
        sock: socket.socket,
        pieces: list[bytes],
        arrived_ns: list[int],
        read_ns: list[int],
        each: bool,
    ) -> None:
        """Sets the lists that a socket's pieces and stamps go into."""
        self._core.deliver(sock.fileno(), pieces, arrived_ns, read_ns, each)

    def forget(self, sock: socket.socket) -> None:
        """Stops reading a socket."""
        self._core.forget(sock.fileno())

    def close(self) -> None:
        """Stops reading all sockets."""
        self._closed = True
        self._loop.remove_reader(self._core.fileno())
        if self._timer is not None:
            self._timer.cancel()

    def _ready(self) -> None:
        """Reads after the other work of this turn of the event loop, and what that work starts.

        The bytes have their stamps already, but a request that is due would be late.
        """
        if not self._due:
            self._due = True
            self._loop.call_soon(self._loop.call_soon, self._read)

    def _read(self) -> None:
        self._due = False
        if self._closed:
            return
        self._drain()
        now_ns = time.monotonic_ns()
        if now_ns - self._read_at_ns[0] < _BUSY_NS:
            self._loop.remove_reader(self._core.fileno())
            self._timer = self._loop.call_later(_REST_S, self._look)
        self._read_at_ns.append(now_ns)

    def _look(self) -> None:
        if self._drain() < _LOOKS:
            self._loop.add_reader(self._core.fileno(), self._ready)
        else:
            self._timer = self._loop.call_later(_REST_S, self._look)

    def _drain(self) -> int:
        ready, notices = self._core.drain(self._clock.offset_ns)
        is_idle = not self._notices
        self._notices += notices
        if is_idle:
            self._notify()
        return ready

    def _notify(self) -> None:
        until_ns = time.monotonic_ns() + _SLICE_NS
        while self._notices:
            owner, what = self._notices.popleft()
            try:
                owner.notice(what)
            except (
                Exception
            ) as error:  # the others are notified all the same, as an event loop does
                self._loop.call_exception_handler(
                    {"message": "a connection failed to take what came in", "exception": error}
                )
            if self._notices and time.monotonic_ns() > until_ns:
                self._loop.call_soon(self._notify)
                return


class _Line:
    """A socket of the Python receiver."""

    __slots__ = ("arrived_ns", "each", "held", "owner", "pieces", "read_ns", "receive")

    def __init__(self, sock: socket.socket, owner: Owner) -> None:
        self.receive, self.owner = sock.recvmsg, owner
        self.deliver([], [], [], True)

    def deliver(
        self, pieces: list[bytes], arrived_ns: list[int], read_ns: list[int], each: bool
    ) -> None:
        self.pieces, self.arrived_ns, self.read_ns, self.each, self.held = (
            pieces,
            arrived_ns,
            read_ns,
            each,
            0,
        )


class PythonReceiver:
    """Each socket is one of the event loop's readers."""

    kind: ReceiverKind = "python"

    def __init__(self, clock: KernelClock) -> None:
        self._clock = clock
        self._lines: dict[socket.socket, _Line] = {}
        self._loop = asyncio.get_running_loop()

    def watch(self, sock: socket.socket, owner: Owner) -> None:
        """Starts to read a socket."""
        self._lines[sock] = line = _Line(sock, owner)
        self._loop.add_reader(sock, self._read, line)

    def deliver(
        self,
        sock: socket.socket,
        pieces: list[bytes],
        arrived_ns: list[int],
        read_ns: list[int],
        each: bool,
    ) -> None:
        """Sets the lists that a socket's pieces and stamps go into."""
        self._lines[sock].deliver(pieces, arrived_ns, read_ns, each)

    def forget(self, sock: socket.socket) -> None:
        """Stops reading a socket."""
        self._loop.remove_reader(sock)
        del self._lines[sock]

    def close(self) -> None:
        """Does nothing: every socket was forgotten by its owner."""

    def _read(self, line: _Line) -> None:
        try:
            data, ancillary, _, _ = line.receive(_READ, _STAMP_SPACE)
        except BlockingIOError:
            return
        except OSError as error:
            line.owner.notice(error.errno or CLOSED)
            return
        read_ns = time.monotonic_ns()
        if not data:
            line.owner.notice(CLOSED)
            return
        arrived_ns = read_ns
        if ancillary:
            seconds, nanos = _STAMP.unpack(ancillary[0][2])
            arrived_ns = seconds * 1_000_000_000 + nanos + self._clock.offset_ns
        pieces = line.pieces
        pieces.append(data)
        line.arrived_ns.append(arrived_ns)
        line.read_ns.append(read_ns)
        count = len(pieces)
        line.held = (0 if count == 1 else line.held) + len(data)
        if line.each or may_end(data) or line.held > HOLD:
            line.owner.notice(LOOK)
        elif count == ENOUGH:
            line.owner.notice(PLENTY)
