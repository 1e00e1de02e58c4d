"""How bytes get onto the wire and come back stamped. A transport knows HTTP and clocks, and nothing of tokens.

`Transport` is the interface; `open_transport` picks one for an endpoint.
"""

from __future__ import annotations

from types import TracebackType
from typing import Literal, Protocol, Self

from foundation.endpoint import Endpoint
from loadgen.exchange import Exchange


class Transport(Protocol):
    """Connections to one endpoint, kept alive between requests. `clock` says whose the arrival stamps are."""

    name: str
    clock: Literal["kernel", "user"]

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def send(self, exchange: Exchange, path: str, body: bytes | None) -> None:
        """Send one request (POST with a JSON body, GET without) and fill `exchange` until the response has ended.

        `path` is below the endpoint's base URL. Raises Broken. Cancelling it closes the connection.
        """


def open_transport(endpoint: Endpoint) -> Transport:
    """The transport for an endpoint's URL."""
    from loadgen.transport.over_aiohttp import AiohttpTransport

    return AiohttpTransport(endpoint)
