"""`python -m serve.otlp.listener FD FILE BEGUN`: takes traces on a listening socket until its
standard input ends.

It appends the times of requests of blocks since BEGUN (CLOCK_MONOTONIC, ns) to FILE, then prints
one line of `Received`. It is a process of its own, so that decoding does not delay the load.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
import time
from pathlib import Path
from typing import IO

import msgspec
from aiohttp import web

from foundation.run.engine_record import ENGINE_SCHEMA_VERSION, EngineLine, EngineStart
from serve.otlp.received import LARGEST, PATH, Received
from serve.otlp.spans import read_spans

_PROTOBUF = "application/x-protobuf"
_SHUTDOWN_S = 2.0


class Listener:
    """Takes the bodies of OTLP over HTTP (https://opentelemetry.io/docs/specs/otlp/#otlphttp)."""

    def __init__(self, file: IO[bytes], begun_ns: int) -> None:
        self.received = Received()
        self._file, self._begun_ns = file, begun_ns
        self._write(
            EngineStart(
                schema_version=ENGINE_SCHEMA_VERSION,
                source="OTLP http/protobuf",
                monotonic_ns=time.monotonic_ns(),
                unix_ns=time.time_ns(),
            )
        )

    async def take(self, request: web.Request) -> web.Response:
        """Keeps the spans of a body. aiohttp decompresses it."""
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            self.received.too_large += 1
            raise
        except web.RequestPayloadError:  # it is not compressed as its head says
            body = b""
        try:
            if not body or request.content_type != _PROTOBUF:
                raise ValueError("no protobuf")
            requests = read_spans(body, self._begun_ns, time.monotonic_ns(), self.received)
        except ValueError:
            self.received.unreadable += 1
            return web.Response(status=400)
        try:
            self._write(*requests)
        except OSError:
            self.received.unwritten += len(requests)
        else:
            self.received.kept += len(requests)
        return web.Response(content_type=_PROTOBUF)

    def _write(self, *lines: EngineLine) -> None:
        self._file.write(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


async def _main(descriptor: int, path: Path, begun_ns: int) -> None:
    logging.disable()  # a pipe full of complaints about bad requests would stop this process
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    with path.open("ab", buffering=0) as file:
        listener = Listener(file, begun_ns)
        app = web.Application(client_max_size=LARGEST)
        app.router.add_post(PATH, listener.take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        await web.SockSite(runner, socket.socket(fileno=descriptor)).start()
        await orders.read()
        await runner.cleanup()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(msgspec.json.encode(listener.received) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
