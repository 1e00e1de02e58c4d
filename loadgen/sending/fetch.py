"""Sends one request and reads its whole response, to learn what a server is and whether it
answers.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from loadgen.protocol.openai import takes_extended
from loadgen.transport import Transport
from loadgen.transport.exchange import Backlog, BrokenExchange, Exchange

_LONGEST = 1 << 20


@dataclass(frozen=True)
class Response:
    """The response to a request. `status` is None without one; then `problem` says why.

    `location`: the target of a redirect.
    """

    status: int | None
    body: bytes = b""
    location: str | None = None
    problem: str = ""


async def fetch(transport: Transport, path: str, body: bytes | None, patience_s: float) -> Response:
    """POSTs a body to a path below the endpoint's base, or GETs without one.

    It raises nothing for an error of the server.
    """
    sink = _BodyStart()
    exchange = Exchange(sink, time.monotonic_ns(), Backlog())
    problem = ""
    try:
        await asyncio.wait_for(transport.send(exchange, path, body), patience_s)
    except BrokenExchange as error:
        problem = str(error)
    except TimeoutError:
        problem = f"no whole answer within {patience_s:g} s"
    exchange.digest()
    problem = problem or exchange.garbled or ""
    return Response(exchange.status, bytes(sink.data), exchange.location, problem)


async def extended_form(transport: Transport, patience_s: float) -> bool:
    """Whether the server takes vLLM's form of the API.

    A server that does not say so gets the plain form.
    """
    response = await fetch(transport, "/models", None, patience_s)
    return response.status == 200 and not response.problem and takes_extended(response.body)


@dataclass
class _BodyStart:
    """Collects the beginning of a body. More than `_LONGEST` bytes add no information."""

    data: bytearray = field(default_factory=bytearray)

    def feed(self, pieces: list[bytes], arrived_ns: list[int], read_ns: list[int]) -> None:
        if len(self.data) < _LONGEST:
            self.data += b"".join(pieces)
