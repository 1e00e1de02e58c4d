"""One request whose answer is read whole: what a server is, and whether it answers at all."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from loadgen.protocol.openai import takes_extended
from loadgen.transport import Transport
from loadgen.transport.exchange import Backlog, Broken, Exchange

_MOST = 1 << 20


@dataclass(frozen=True)
class Answer:
    """`status` is None where no answer came; `problem` says why. `location`: where a redirect leads."""

    status: int | None
    body: bytes = b""
    location: str | None = None
    problem: str = ""


async def fetch(transport: Transport, path: str, body: bytes | None, patience_s: float) -> Answer:
    """POST a body below the endpoint's base, or GET without one; never raises for what the server does."""
    sink = _Body()
    exchange = Exchange(sink, time.monotonic_ns(), Backlog())
    problem = ""
    try:
        await asyncio.wait_for(transport.send(exchange, path, body), patience_s)
    except Broken as error:
        problem = str(error)
    except TimeoutError:
        problem = f"no whole answer within {patience_s:g} s"
    exchange.digest()
    problem = problem or exchange.garbled or ""
    return Answer(exchange.status, bytes(sink.data), exchange.location, problem)


async def extended_form(transport: Transport, patience_s: float) -> bool:
    """Whether the server takes vLLM's form of the API. One that does not say is sent the plain form."""
    answer = await fetch(transport, "/models", None, patience_s)
    return answer.status == 200 and not answer.problem and takes_extended(answer.body)


@dataclass
class _Body:
    """The beginning of a body: more than `_MOST` bytes say nothing more."""

    data: bytearray = field(default_factory=bytearray)

    def feed(self, pieces: list[bytes], arrived_ns: list[int], read_ns: list[int]) -> None:
        if len(self.data) < _MOST:
            self.data += b"".join(pieces)
