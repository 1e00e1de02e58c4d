"""How bytes get onto the wire and come back stamped. A transport knows HTTP and clocks, and nothing of tokens.

`Transport` is the interface; `open_transport` picks one for an endpoint.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Literal, Protocol, Self
from urllib.parse import urlsplit

from foundation.errors import BadInput
from foundation.http.connections import proxy_of
from foundation.http.endpoint import Endpoint
from foundation.run.records import ReceiverKind
from loadgen.transport.exchange import Exchange

Choice = Literal["auto", "socket", "aiohttp"]


class Transport(Protocol):
    """Connections to one endpoint, kept alive between requests. `clock` says whose the arrival stamps are.

    `clock_step_ns`: how far that clock was set against CLOCK_MONOTONIC so far. `receiver`: what reads the sockets, once they are
    open, where that is ours to choose.
    """

    name: str
    clock: Literal["kernel", "user"]
    receiver: ReceiverKind | None

    @property
    def clock_step_ns(self) -> int: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    async def send(self, exchange: Exchange, path: str, body: bytes | None) -> None:
        """Send one request (POST with a JSON body, GET without) and fill `exchange` until the response has ended.

        `path` is below the endpoint's base URL. Raises Broken. Cancelling it closes the connection.
        """


def open_transport(endpoint: Endpoint, choice: Choice = "auto") -> Transport:
    """The transport for an endpoint: `socket` for plain HTTP that goes straight there, `aiohttp` for TLS and through proxies.

    Raises BadInput where the one chosen can't do it.
    """
    secure, proxy = urlsplit(endpoint.base_url).scheme == "https", proxy_of(endpoint)
    if choice == "socket" and secure:
        raise BadInput(
            f"workload.transport: socket has no TLS, and {endpoint.base_url} needs it; write aiohttp or auto"
        )
    if choice == "socket" and proxy:
        raise BadInput(
            f"workload.transport: socket goes straight to {endpoint.base_url}, and {proxy.variable} names a proxy; "
            "write aiohttp or auto, or add the host to NO_PROXY"
        )
    if choice == "socket" or (
        choice == "auto" and not secure and not proxy and sys.platform != "win32"
    ):
        from loadgen.transport.over_socket import SocketTransport

        return SocketTransport(endpoint)
    from loadgen.transport.over_aiohttp import AiohttpTransport

    return AiohttpTransport(endpoint)
