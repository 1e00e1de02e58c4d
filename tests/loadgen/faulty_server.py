"""A server that answers well, or with the exact bytes of a fault in a prompt ("fault:NAME")."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable

from foundation.http.endpoint import Endpoint

Script = Callable[["FaultyServer", asyncio.StreamWriter], Awaitable[None]]
_RESET = struct.pack("ii", 1, 0)


def event(content: str | None, finish: str | None = None, **more: object) -> bytes:
    data = {
        "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}],
        **more,
    }
    return b"data: " + json.dumps(data).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
ANSWER = event("a ") + event("b") + event(None, "stop") + DONE
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
JSON = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def sized(body: bytes, more: bytes = b"", length: int | None = None) -> bytes:
    return (
        HEAD
        + more
        + b"Content-Length: %d\r\n\r\n" % (len(body) if length is None else length)
        + body
    )


def refusal(
    status: bytes, more: bytes = b"", body: bytes = b'{"error": {"message": "no"}}'
) -> bytes:
    return JSON % (status, more, len(body)) + body


def stream(*parts: bytes) -> bytes:
    return CHUNKED + b"".join(map(chunk, parts)) + b"0\r\n\r\n"


def says(*pieces: bytes, then: str = "keep") -> Script:
    """Sends the pieces a moment apart, then keeps, closes or resets the connection."""

    async def script(server: FaultyServer, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.005)
        if then == "silence":
            await asyncio.sleep(60)
        if then == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
        if then != "keep":
            raise ConnectionError

    return script


def drips(piece: bytes, pause: float) -> Script:
    async def script(server: FaultyServer, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    return script


async def dies(server: FaultyServer, writer: asyncio.StreamWriter) -> None:
    """The process is killed: nobody listens any more, and every connection is reset."""
    server.die()
    raise ConnectionError


HALF = [CHUNKED, chunk(event("a "))]

# What happens, and the class that it is. None: nothing that an answer could fail by.
FAULTS: dict[str, tuple[Script, str | None]] = {
    "reset-before-head": (says(then="reset"), "reset"),
    "close-before-head": (says(then="close"), "reset"),
    "reset-in-head": (says(b"HTTP/1.1 200 OK\r\nContent-", then="reset"), "reset"),
    "close-in-head": (says(b"HTTP/1.1 200 OK\r\nContent-", then="close"), "reset"),
    "garbage-head": (says(b"220 mail.example.org ESMTP\r\n\r\n", then="close"), "malformed"),
    "tls-alert": (says(b"\x15\x03\x03\x00\x02\x02\x46", then="close"), "malformed"),
    "huge-header": (says(HEAD + b"X: " + b"y" * 200_000 + b"\r\n\r\n", then="close"), "malformed"),
    "long-header": (says(sized(ANSWER, b"X: " + b"y" * 20_000 + b"\r\n")), None),
    "continue": (says(b"HTTP/1.1 100 Continue\r\n\r\n" * 3, stream(ANSWER)), None),
    "only-continue": (says(b"HTTP/1.1 100 Continue\r\n\r\n", then="silence"), "timeout_first"),
    "redirect": (says(
            b"HTTP/1.1 302 Found\r\nLocation: /v1/chat/completions\r\n"
            b"Content-Length: 0\r\n\r\n"
        ), "malformed"),
    "http-404": (says(refusal(b"404 Not Found")), "http_4xx"),
    "http-429": (says(refusal(b"429 Too Many", b"Retry-After: 2\r\n")), "http_4xx"),
    "http-500": (says(refusal(b"500 Oops")), "http_5xx"),
    "http-503-cut": (says(refusal(b"503 Oops")[:-9], then="close"), "http_5xx"),
    "no-head": (says(then="silence"), "timeout_first"),
    "no-body": (says(CHUNKED, then="silence"), "timeout_first"),
    "stall": (says(*HALF, then="silence"), "timeout_stall"),
    "comments": (drips(chunk(b": ping\n\n"), 0.05), "timeout_first"),
    "drip": (drips(chunk(event("a")), 0.1), "timeout_total"),
    "reset-in-body": (says(*HALF, then="reset"), "reset"),
    "close-in-body": (says(*HALF, then="close"), "truncated"),
    "long-length": (says(sized(event("a "), length=5000), then="close"), "truncated"),
    "short-length": (says(sized(ANSWER, length=20), then="close"), "malformed"),
    "bad-chunk-size": (says(*HALF, b"zz\r\n" + event("b") + b"\r\n", then="close"), "malformed"),
    "bad-first-chunk": (says(CHUNKED + b"zz\r\n" + ANSWER), "malformed"),
    "long-chunk": (says(CHUNKED + chunk(event("a")) + b"5\r\nabcdefgh\r\n0\r\n\r\n"), "malformed"),
    "cut-chunk": (says(*HALF, b"ff\r\n" + event("b"), then="close"), "truncated"),
    "no-last-chunk": (says(CHUNKED, chunk(event("a") + event(None, "stop")), then="close"),
        "truncated"),
    "no-last-chunk-after-done": (says(CHUNKED, chunk(ANSWER), then="close"), None),
    "until-close": (says(HEAD + b"\r\n", ANSWER, then="close"), None),
    "until-close-no-done": (says(HEAD + b"\r\n", event("a"), event(None, "stop"), then="close"),
        None),
    "wrong-type": (says(stream(ANSWER).replace(b"text/event-stream", b"text/html")), None),
    "html": (says(refusal(b"200 OK", body=b"<html>\n\n<h1>Busy</h1></html>")), "malformed"),
    "json-error": (says(refusal(b"200 OK")), "stream_error"),
    "json-answer": (says(refusal(b"200 OK", body=b'{"choices": [{"message": {"content": "a"}}]}')),
        "malformed"),
    "gzip-garbage": (says(sized(b"junk" * 50, b"Content-Encoding: gzip\r\n")), "malformed"),
    "brotli": (says(sized(b"junk" * 50, b"Content-Encoding: br\r\n")), "malformed"),
    "gzip": (says(sized(gzip.compress(ANSWER), b"Content-Encoding: gzip\r\n")), None),
    "huge-event": (says(stream(event("a" * 2_000_000), ANSWER)), None),
    "bad-utf-8": (says(stream(event("X").replace(b"X", b"\xff"), ANSWER)), None),
    "bad-json": (says(stream(b"data: {oops\n\n", ANSWER)), "malformed"),
    "error-event": (says(stream(event("a"), b"event: error\ndata: died\n\n", DONE)),
        "stream_error"),
    "abort": (says(stream(event("a"), event(None, "abort"), DONE)), "aborted"),
    "no-reason": (says(stream(event("a"), DONE)), "aborted"),
    "empty-body": (says(CHUNKED + b"0\r\n\r\n"), "aborted"),
    "die": (dies, "reset"),
}  # fmt: skip


class FaultyServer:
    """Listens on a free port of this host while it is open."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls

    async def __aenter__(self) -> FaultyServer:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=1 << 24, backlog=1000, ssl=self._tls
        )
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("variant", f"http://127.0.0.1:{self.port}/v1", "m")

    def die(self) -> None:
        self._server.close()
        for writer in self._open:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        try:
            while True:
                await self._answer(reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError, RuntimeError):
            pass  # the client is gone; uvloop's transports then raise RuntimeError
        finally:
            self._open.discard(writer)
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(1)
        if first == b"\x16":  # TLS
            writer.write(refusal(b"400 Bad Request"))
            raise ConnectionError
        head = first + await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        body = await reader.readexactly(int(length[1]) if length else 0)
        named = re.search(rb"fault:([a-z0-9-]+)", body)
        if named:
            await FAULTS[named[1].decode()][0](self, writer)
        elif head.startswith(b"GET"):
            writer.write(refusal(b"200 OK", body=b'{"data": [{"id": "m"}]}'))
        else:
            await says(
                CHUNKED,
                *map(chunk, [event("a "), event("b"), event(None, "stop"), DONE]),
                b"0\r\n\r\n",
            )(self, writer)
