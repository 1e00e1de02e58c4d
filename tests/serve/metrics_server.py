"""An HTTP server whose every answer is the same page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from foundation.http.endpoint import Endpoint


@dataclass
class MetricsServer:
    """`targets`: what was asked for, in order."""

    port: int
    targets: list[str] = field(default_factory=list)

    def endpoint(self, variant: str = "a", query: str = "") -> Endpoint:
        return Endpoint(variant, f"http://127.0.0.1:{self.port}/v1", "m", query=query)


@asynccontextmanager
async def answering(
    page: bytes, *, status: int = 200, ends: bool = True, selected: bytes | None = None
) -> AsyncIterator[MetricsServer]:
    """`selected`: the answer to a request that names metrics. With `ends` false none ends."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                target = head.split()[1].decode()
                up.targets.append(target)
                body = selected if selected is not None and "name%5B%5D" in target else page
                length = b"Content-Length: %d\r\n" % len(body) if ends else b"Connection: close\r\n"
                writer.write(b"HTTP/1.1 %d OK\r\n" % status + length + b"\r\n" + body)
                while not ends:
                    writer.write(body)
                    await writer.drain()
                    await asyncio.sleep(0.001)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1") as server:
        up = MetricsServer(server.sockets[0].getsockname()[1])
        yield up
