"""The socket transport, with either receiver, against servers that send exact bytes in pieces."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from foundation.errors import BadInput
from foundation.http.endpoint import Endpoint
from loadgen.event_loop import run
from loadgen.transport import open_transport
from loadgen.transport.connection import Connection
from loadgen.transport.exchange import Backlog, BrokenExchange, Exchange
from loadgen.transport.receiver import CLOSED
from tests.loadgen.conftest import RunBlock, StartEmulator
from tests.loadgen.test_framing import chunk

pytestmark = pytest.mark.usefixtures("receiver")

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Body:
    """A sink that keeps what it is fed."""

    def __init__(self) -> None:
        self.data = b""
        self.arrivals: list[int] = []

    def feed(self, pieces: list[bytes], arrived_ns: list[int], read_ns: list[int]) -> None:
        for data, arrived, read in zip(pieces, arrived_ns, read_ns, strict=True):
            assert arrived <= read
            self.data += data
            self.arrivals.append(arrived)


Script = Callable[[int, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def request_of(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        ),
        0,
    )
    return head + await reader.readexactly(length)


def converse(
    script: Script,
    requests: int = 1,
    host: str = "127.0.0.1",
    body: bytes = b"{}",
    pause: float = 0.0,
) -> list[tuple[str, Body]]:
    """Sends `requests` requests over one socket transport: how each ended, and its body."""

    async def main() -> list[tuple[str, Body]]:
        count = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            count += 1
            try:
                await script(count, reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, host, 0)
        port = server.sockets[0].getsockname()[1]
        name = f"[{host}]" if ":" in host else host
        ended = []
        async with open_transport(
            Endpoint("v", f"http://{name}:{port}/v1", "m"), "socket"
        ) as transport:
            for _ in range(requests):
                sink = Body()
                exchange = Exchange(sink, time.monotonic_ns(), Backlog())
                try:
                    await asyncio.wait_for(transport.send(exchange, "/chat/completions", body), 10)
                    how = str(exchange.status)
                except BrokenExchange as broken:
                    how = broken.failure
                exchange.digest()
                ended.append((how, sink))
                await asyncio.sleep(pause)
        server.close()
        return ended

    return run(main())


def answers(*pieces: bytes, close: bool = False) -> Script:
    """Sends the pieces, each as a segment of its own, to every request."""

    async def script(_: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request_of(reader)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.002)
            if close:
                return

    return script


WHOLE = HEAD + chunk(b"data: \xc3\xa9\n\n", b";ext=1") + chunk(b"data: 2\n\n") + b"0\r\n\r\n"


def test_a_response_split_at_every_place() -> None:
    for place in range(1, len(WHOLE), 3):
        assert [
            (how, sink.data) for how, sink in converse(answers(WHOLE[:place], WHOLE[place:]))
        ] == [("200", "data: é\n\ndata: 2\n\n".encode())]


def test_an_end_split_at_its_last_bytes() -> None:
    for place in range(1, 6):
        ended = converse(answers(WHOLE[:-place], WHOLE[-place:]), requests=2)
        assert [how for how, _ in ended] == ["200", "200"]


def test_a_connection_is_used_again() -> None:
    connections = []

    async def script(
        number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        connections.append(number)
        await answers(WHOLE)(number, reader, writer)

    assert [how for how, _ in converse(script, requests=5)] == ["200"] * 5
    assert connections == [1]


@pytest.mark.parametrize("pause", [0.0, 0.02])
def test_a_word_that_comes_again_later_costs_no_connection(
    pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver notifies its owners in turn, so an answer's end may be read before its notice."""
    connections = []
    at_once = Connection.notice

    def notice(self: Connection, what: int) -> None:
        at_once(self, what)
        if what < CLOSED:
            for delay in (0.0, 0.001, 0.01):
                asyncio.get_running_loop().call_later(delay, at_once, self, what)

    async def script(
        number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        connections.append(number)
        await answers(WHOLE)(number, reader, writer)

    monkeypatch.setattr(Connection, "notice", notice)
    ended = converse(script, requests=5, pause=pause)
    assert [(how, sink.data) for how, sink in ended] == [
        ("200", "data: é\n\ndata: 2\n\n".encode())
    ] * 5
    assert connections == [1]


@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_a_server_that_closes_after_each_answer_costs_no_failure(pause: float) -> None:
    """Without a pause the next request crosses the close; after one it finds it closed."""
    assert [how for how, _ in converse(answers(WHOLE, close=True), requests=4, pause=pause)] == [
        "200"
    ] * 4


def test_connection_close_is_heeded() -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"
    assert [(how, sink.data) for how, sink in converse(answers(head, b"ab"), requests=2)] == [
        ("200", b"ab")
    ] * 2


def test_a_body_that_ends_with_the_connection() -> None:
    assert [
        (how, s.data)
        for how, s in converse(answers(b"HTTP/1.1 200 OK\r\n\r\n", b"ab", b"cd", close=True))
    ] == [("200", b"abcd")]


def test_a_half_closed_connection_still_answers() -> None:
    async def script(_: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(HEAD + chunk(b"ab"))
        await asyncio.sleep(0.01)
        writer.write(b"0\r\n\r\n")
        writer.write_eof()
        await asyncio.sleep(0.1)

    assert [(how, sink.data) for how, sink in converse(script, requests=2)] == [("200", b"ab")] * 2


def test_interim_responses_are_skipped() -> None:
    assert (
        converse(answers(b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE[:30], WHOLE[30:]))[0][0] == "200"
    )


def test_a_megabyte_event_and_a_megabyte_request() -> None:
    event = b"data: " + b"x" * 1_000_000 + b"\n\n"
    ended = converse(answers(HEAD, chunk(event), b"0\r\n\r\n"), requests=2, body=b"y" * 1_000_000)
    assert [(how, sink.data) for how, sink in ended] == [("200", event)] * 2


@pytest.mark.parametrize(
    ("pieces", "failure"),
    [
        ([b""], "reset"),
        ([b"HTTP/1.1 200"], "reset"),
        ([HEAD + b"5\r\nab"], "truncated"),
        ([HEAD + chunk(b"ab")], "truncated"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"], "truncated"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"], "malformed"),
        ([b"220 mail.example.org ESMTP\r\n"], "malformed"),
        ([HEAD + b"what?\r\n\r\n"], "malformed"),
        ([WHOLE + b"HTTP/1.1 200 OK\r\n\r\n"], "malformed"),
    ],
)
def test_responses_that_break_off_or_are_none(pieces: list[bytes], failure: str) -> None:
    assert [how for how, _ in converse(answers(*pieces, close=True))] == [failure]


def test_a_dead_connection_is_retried_once_and_no_more() -> None:
    async def script(
        number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await request_of(reader)
        if number == 1:
            writer.write(WHOLE)
            await request_of(reader)

    assert [how for how, _ in converse(script, requests=2)] == ["200", "reset"]


def test_ipv6() -> None:
    try:
        assert converse(answers(WHOLE), host="::1")[0][0] == "200"
    except OSError:
        pytest.skip("no IPv6 here")


def test_unix_sockets(emulator: StartEmulator, block: RunBlock, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    emulator("--unix", str(path))
    journal = block(
        Endpoint("v", f"http+unix://{str(path).replace('/', '%2F')}/v1", "m"),
        {"concurrency": 2, "requests": 6},
    )
    assert [r.failure for r in journal.records] == [None] * 6
    assert (journal.header.transport, journal.header.clock) == ("socket", "user")


def test_kernel_stamps_lie_between_the_server_s_write_and_the_client_s_read(
    emulator: StartEmulator, block: RunBlock
) -> None:
    server = emulator("--tokens", "20", "--itl", "2ms")
    journal = block(server.endpoint, {"concurrency": 4, "requests": 20})
    truth = server.truth()
    tolerance = 100_000  # two readings of the offset between the kernel's clocks
    for record in journal.records:
        arrived, written = (
            journal.header.origin_monotonic_ns,
            truth[f"question {record.prompt_id[1:]}"]["event_ns"],
        )
        for gap, lag, wrote in zip(record.chunk_ns, record.client_lag_ns, written, strict=True):
            arrived += gap
            assert wrote - tolerance <= arrived
            assert lag >= -tolerance


def test_a_late_reader_does_not_move_a_kernel_stamp(emulator: StartEmulator) -> None:
    """Tokens that come while the event loop is busy still have the stamps of their arrival."""
    server = emulator("--tokens", "2", "--ttft", "50ms", "--itl", "1ms")

    async def main() -> tuple[Body, int]:
        sink = Body()
        async with open_transport(server.endpoint, "socket") as transport:
            exchange = Exchange(sink, time.monotonic_ns(), Backlog())
            asking = asyncio.create_task(
                transport.send(
                    exchange, "/completions", b'{"model": "m", "prompt": "p", "max_tokens": 2}'
                )
            )
            await asyncio.sleep(0.02)
            time.sleep(0.4)  # noqa: ASYNC251 - the stall is the test
            stalled_until_ns = time.monotonic_ns()
            await asking
            exchange.digest()
        return sink, stalled_until_ns

    sink, stalled_until_ns = run(main())
    assert b"t0" in sink.data
    wrote_ns = server.truth()["p"]["event_ns"][0]
    assert sink.arrivals[-1] - wrote_ns < (stalled_until_ns - wrote_ns) / 2


def test_which_transport_a_url_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "direct.example")

    def chosen(url: str, choice: Any = "auto") -> str:
        async def main() -> str:
            return open_transport(Endpoint("v", url, "m"), choice).name

        return run(main())

    assert chosen("http://127.0.0.1:8000/v1") == "socket"
    assert chosen("http://direct.example/v1") == "socket"
    assert chosen("http://far.example/v1") == "aiohttp"
    assert chosen("https://127.0.0.1/v1") == "aiohttp"
    assert chosen("http://127.0.0.1:8000/v1", "aiohttp") == "aiohttp"
    with pytest.raises(BadInput, match="no TLS"):
        chosen("https://127.0.0.1/v1", "socket")
