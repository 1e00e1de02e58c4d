"""An engine step's batch: every byte arrives, however full the kernel's buffers are."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable

import pytest

from loadgen.emulator import batch
from loadgen.emulator.connection import ClientConnection
from loadgen.event_loop import run
from tests.loadgen.conftest import need_compiled

SMALL, LARGE = b"data: {}\n\n", bytes(range(256)) * 4096


@pytest.fixture(params=["compiled", "python"], autouse=True)
def writer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "python":
        monkeypatch.setattr(batch, "send_each", batch.send_each_in_python)
    else:
        need_compiled()


def with_pairs(
    count: int,
    go: Callable[[list[ClientConnection], list[socket.socket], list[ClientConnection]], object],
) -> None:
    """Awaits `go`, which gets connections, their other ends, and a list of the closed ones."""

    async def main() -> None:
        closed: list[ClientConnection] = []
        pairs = [socket.socketpair() for _ in range(count)]
        connections = [ClientConnection(here, lambda *_: None, closed.append) for here, _ in pairs]
        try:
            await go(connections, [there for _, there in pairs], closed)
        finally:
            for connection, (_, there) in zip(connections, pairs, strict=True):
                connection.close()
                there.close()

    run(main())


async def read(sock: socket.socket, count: int) -> bytes:
    sock.setblocking(False)
    data = b""
    async with asyncio.timeout(10):
        while len(data) < count:
            data += await asyncio.get_running_loop().sock_recv(sock, 1 << 16)
    return data


def test_each_gets_its_own_and_the_times_are_in_order() -> None:
    async def go(
        connections: list[ClientConnection], ends: list[socket.socket], _: list[ClientConnection]
    ) -> None:
        before_ns = time.monotonic_ns()
        stamps = batch.send_all(connections, pieces := [b"%d" % n for n in range(len(connections))])
        times = [before_ns, *stamps, time.monotonic_ns()]
        assert times == sorted(times)
        assert [end.recv(100) for end in ends] == pieces

    with_pairs(50, go)


def test_what_the_kernel_has_no_room_for_follows_in_order() -> None:
    async def go(
        connections: list[ClientConnection], ends: list[socket.socket], _: list[ClientConnection]
    ) -> None:
        for piece in (LARGE, SMALL, LARGE, SMALL):
            batch.send_all(connections, [piece, SMALL])
        assert not connections[0].clear and connections[1].clear
        assert await read(ends[0], 2 * len(LARGE + SMALL)) == 2 * (LARGE + SMALL)
        assert ends[1].recv(1000) == 4 * SMALL
        assert connections[0].clear

    with_pairs(2, go)


def test_one_that_is_gone_is_closed_and_the_others_are_served() -> None:
    async def go(
        connections: list[ClientConnection],
        ends: list[socket.socket],
        closed: list[ClientConnection],
    ) -> None:
        ends[1].close()
        assert len(batch.send_all(connections, [SMALL] * 3)) == 3
        assert closed == [connections[1]]
        assert [ends[0].recv(100), ends[2].recv(100)] == [SMALL, SMALL]
        batch.send_all(connections, [SMALL] * 3)  # the closed one is no obstacle
        assert [ends[0].recv(100), ends[2].recv(100)] == [SMALL, SMALL]

    with_pairs(3, go)


def test_a_bad_descriptor_is_told_by_its_place() -> None:
    here, there = socket.socketpair()
    with here, there:
        stamps, partial = batch.send_each([here.fileno(), 100_000], [b"a", b"b"])
        assert len(stamps) == 2 and partial == [(1, -errno.EBADF)] and there.recv(10) == b"a"


def test_the_compiled_one_refuses_what_it_cannot_take() -> None:
    need_compiled()
    from loadgen._compiled import send_each

    for fds, pieces in (((1,), [b""]), ([1], []), (["1"], [b"a"]), ([1], ["a"])):
        with pytest.raises(TypeError):
            send_each(fds, pieces)  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        send_each([2**70], [b"a"])
