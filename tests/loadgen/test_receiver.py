"""Both receivers on socket pairs: their lists, their notices, and errors of the compiled one."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadgen.event_loop import run
from loadgen.transport.chunked_coding import whole_chunks, whole_chunks_in_python
from loadgen.transport.clocks import KernelClock
from loadgen.transport.exchange import ENOUGH, HOLD
from loadgen.transport.receiver import CLOSED, LOOK, PLENTY, open_receiver
from tests.loadgen.conftest import need_compiled

QUIET = b"data: {}\n\n"


class Line:
    """A watched end of a connection, the other end to write to, and its owner's notices."""

    def __init__(self, receiver: Any, each: bool = False) -> None:
        self.receiver = receiver
        listener = socket.create_server(("127.0.0.1", 0))
        self.there = socket.create_connection(listener.getsockname())
        self.there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.here, _ = listener.accept()
        listener.close()
        self.here.setblocking(False)
        self.notices: list[int] = []
        self.pieces: list[bytes] = []
        self.arrived_ns: list[int] = []
        self.read_ns: list[int] = []
        receiver.watch(self.here, self)
        receiver.deliver(self.here, self.pieces, self.arrived_ns, self.read_ns, each)

    def notice(self, what: int) -> None:
        self.notices.append(what)
        if what >= CLOSED:
            self.receiver.forget(self.here)

    def close(self) -> None:
        with suppress(KeyError, ValueError):  # forgotten already
            self.receiver.forget(self.here)
        self.here.close()
        self.there.close()

    async def has(self, count: int) -> None:
        await until(lambda: sum(map(len, self.pieces)) >= count)


async def until(done: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not done():  # noqa: ASYNC110 - what is waited for is in other hands
            await asyncio.sleep(0.001)


def with_lines(count: int, go: Callable[[list[Line]], Awaitable[None]], each: bool = False) -> None:
    async def main() -> None:
        receiver = open_receiver(KernelClock())
        lines = [Line(receiver, each) for _ in range(count)]
        try:
            await go(lines)
        finally:
            for line in lines:
                line.close()
            receiver.close()

    run(main())


def test_pieces_that_need_no_look_are_kept_with_their_stamps_and_nobody_is_told(
    receiver: str,
) -> None:
    async def go(lines: list[Line]) -> None:
        [line] = lines
        for number in range(1, ENOUGH + 3):
            line.there.send(QUIET)
            await line.has(number * len(QUIET))
            assert line.notices == ([PLENTY] if number >= ENOUGH else [])
        assert line.pieces == [QUIET] * (ENOUGH + 2)
        assert line.arrived_ns == sorted(line.arrived_ns) and line.read_ns == sorted(line.read_ns)
        assert all(
            arrived <= read <= time.monotonic_ns()
            for arrived, read in zip(line.arrived_ns, line.read_ns, strict=True)
        )

    with_lines(1, go)


@pytest.mark.parametrize("piece", [b"0\r\n\r\n", b"abc", b"x" * (HOLD + 1)])
def test_what_may_end_a_body_and_what_is_too_much_are_told(receiver: str, piece: bytes) -> None:
    async def go(lines: list[Line]) -> None:
        [line] = lines
        line.there.sendall(piece)
        await line.has(len(piece))
        assert set(line.notices) == {LOOK}

    with_lines(1, go)


def test_every_piece_is_told_where_that_is_asked_for(receiver: str) -> None:
    async def go(lines: list[Line]) -> None:
        [line] = lines
        line.there.send(QUIET)
        await line.has(len(QUIET))
        assert line.notices == [LOOK]
        others: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
        line.receiver.deliver(line.here, *others, False)
        line.there.send(QUIET)
        await until(lambda: others[0])
        assert (line.notices, line.pieces, others[0]) == ([LOOK], [QUIET], [QUIET])

    with_lines(1, go, each=True)


def test_an_end_is_told_once_after_what_came_before_it(receiver: str) -> None:
    async def go(lines: list[Line]) -> None:
        closed, half, reset, idle = lines
        closed.there.send(QUIET)
        closed.there.close()
        half.there.send(QUIET)
        half.there.shutdown(socket.SHUT_WR)
        reset.there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        reset.there.close()
        await until(lambda: closed.notices and half.notices and reset.notices)
        assert closed.notices == half.notices == [CLOSED] and closed.pieces == half.pieces == [
            QUIET
        ]
        assert reset.notices[0] > CLOSED and not reset.pieces
        assert not idle.notices

    with_lines(4, go)


def test_megabytes_at_once_do_not_shut_out_the_others(receiver: str) -> None:
    async def go(lines: list[Line]) -> None:
        big, small = lines
        big.there.setblocking(False)
        sending = asyncio.create_task(
            asyncio.get_running_loop().sock_sendall(big.there, b"x" * 8_000_000)
        )
        small.there.send(QUIET)
        await small.has(len(QUIET))
        await big.has(8_000_000)
        await sending

    with_lines(2, go)


def test_a_forgotten_socket_is_left_alone_and_its_number_can_be_used_again(receiver: str) -> None:
    async def go(lines: list[Line]) -> None:
        [line] = lines
        line.receiver.forget(line.here)
        line.there.send(QUIET)
        await asyncio.sleep(0.02)
        assert not line.pieces and line.here.recv(100) == QUIET
        number = line.here.fileno()
        line.close()
        again = Line(line.receiver)
        same = [again]
        while again.here.fileno() != number and len(same) < 5:
            same.append(again := Line(line.receiver))
        again.there.send(QUIET)
        await again.has(len(QUIET))
        for one in same:
            one.close()

    with_lines(1, go)


def test_an_owner_that_fails_costs_the_others_nothing(receiver: str) -> None:
    async def go(lines: list[Line]) -> None:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: complaints.append(context["exception"])
        )
        lines[0].notice = lambda what: 1 // 0  # type: ignore[method-assign,assignment]
        for _ in range(50):
            for line in lines:
                line.there.send(QUIET)
            await asyncio.sleep(0)
        for line in lines:
            await line.has(50 * len(QUIET))
        assert {type(error) for error in complaints} == {ZeroDivisionError}

    with_lines(3, go, each=True)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from([1, 5, 143, 5_000, 70_000]), st.booleans()),
        max_size=60,
    )
)
def test_every_byte_comes_in_order_however_it_is_sent(
    receiver: str, script: list[tuple[int, int, bool]]
) -> None:
    async def go(lines: list[Line]) -> None:
        wrote = [b""] * len(lines)
        for which, size, wait in script:
            data = bytes([len(wrote[which]) % 251]) * size
            await asyncio.get_running_loop().sock_sendall(lines[which].there, data)
            wrote[which] += data
            if wait:
                await asyncio.sleep(0)
        for line, expected in zip(lines, wrote, strict=True):
            await line.has(len(expected))
            assert b"".join(line.pieces) == expected
            assert len(line.pieces) == len(line.arrived_ns) == len(line.read_ns)

    async def started(lines: list[Line]) -> None:
        for line in lines:
            line.there.setblocking(False)
        await go(lines)

    with_lines(5, started)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=12),
            st.binary(min_size=1, max_size=300).map(
                lambda body: b"%x\r\n%b\r\n" % (len(body), body)
            ),
            st.tuples(
                st.sampled_from(
                    [
                        b"0",
                        b"3",
                        b"A",
                        b"00000003",
                        b"000000003",
                        b"0x3",
                        b"3;a",
                        b"+3",
                        b"ffffffff",
                        b"1_0",
                        b"",
                    ]
                ),
                st.binary(max_size=12),
            ).map(lambda p: p[0] + b"\r\n" + p[1] + b"\r\n"),
        ),
        max_size=8,
    ),
    st.integers(0, 3),
)
def test_whole_chunks_are_the_same_in_both_languages(pieces: list[bytes], start: int) -> None:
    found = whole_chunks(pieces, start)
    assert found == whole_chunks_in_python(pieces, start)
    for body, piece in zip(found, pieces[start:], strict=False):
        size, rest = piece.split(b"\r\n", 1)
        assert rest == body + b"\r\n" and int(size, 16) == len(body) > 0


def test_the_compiled_part_refuses_what_it_cannot_take() -> None:
    need_compiled()
    from loadgen._compiled import Receiver, whole_events

    receiver = Receiver(4, 100)
    here, there = socket.socketpair()
    with here, there:
        receiver.watch(here.fileno(), "owner")
        for wrong in (
            lambda: receiver.watch(here.fileno(), "owner"),
            lambda: receiver.watch(-1, "owner"),
            lambda: receiver.forget(there.fileno()),
            lambda: receiver.forget(-1),
            lambda: receiver.forget(2**31 - 1),
            lambda: receiver.deliver(there.fileno(), [], [], [], True),
        ):
            with pytest.raises(ValueError):
                wrong()
        for odd in (
            lambda: receiver.deliver(here.fileno(), [], (), [], True),
            lambda: receiver.watch("0", None),
            lambda: receiver.drain("now"),
            lambda: Receiver("4", 100),
            lambda: whole_events((b"",), 0),
            lambda: whole_chunks([b"1\r\na\r\n", None], 0),
        ):
            with pytest.raises(TypeError):
                odd()
        with pytest.raises(OverflowError):
            receiver.forget(2**40)
        with pytest.raises(OSError):
            receiver.watch(100_000, "nobody")
        with pytest.raises(IndexError):
            whole_chunks([b""], -1)
        there.send(b"abc")
        assert receiver.drain(0) == (1, [("owner", LOOK)])  # nobody said where to put it
        assert receiver.drain(0) == (0, [])


def test_an_owner_and_its_lists_live_as_long_as_they_are_watched() -> None:
    need_compiled()
    from loadgen._compiled import Receiver

    class Owner:
        receiver: Receiver

    owner = Owner()
    owner.receiver = receiver = Receiver(4, 100)
    here, there = socket.socketpair()
    with here, there:
        receiver.watch(here.fileno(), owner)
        receiver.deliver(here.fileno(), pieces := [], [], [], True)
        alive = weakref.ref(owner)
        del owner
        there.send(b"abc")
        [(found, _)] = receiver.drain(0)[1]
        assert found is alive() and pieces == [b"abc"]
        del found, receiver
        gc.collect()
        assert alive() is None  # a ring of owner and receiver is garbage like any other
