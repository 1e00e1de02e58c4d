"""Puts requests on the wire and stamps the bytes that come back. It knows HTTP and clocks, no
tokens.

`Transport` is the interface; `open_transports` chooses one for each replica of an endpoint.
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
    """Connections to one endpoint, kept alive between requests.

    `clock`: whose clock stamps the arrivals. `clock_step_ns`: how far that clock was set against
    CLOCK_MONOTONIC so far. `receiver`: the code that reads the sockets, once they are open; None
    where the transport has no choice.
    """

    name: str
    clock: Literal["kernel", "user"]
    receiver: ReceiverKind | None

    @property
    def clock_step_ns(self) -> int:
        """How far the clock was set against CLOCK_MONOTONIC so far, ns."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    async def send(self, exchange: Exchange, path: str, body: bytes | None) -> None:
        """Sends one request and fills `exchange` until the response has ended.

        With a body it is a POST of JSON, without one a GET. `path` is below the endpoint's base
        URL. Raises BrokenExchange. Cancelling it closes the connection.
        """


def open_transport(endpoint: Endpoint, choice: Choice = "auto") -> Transport:
    """The transport for an endpoint.

    `socket` is for plain HTTP without a proxy, `aiohttp` for TLS and proxies. Raises BadInput where
    the chosen one can't reach the endpoint.
    """
    secure, proxy = urlsplit(endpoint.base_url).scheme == "https", proxy_of(endpoint)
    if choice == "socket" and secure:
        raise BadInput(
            f"workload.transport: socket has no TLS, and {endpoint.base_url} needs it; "
            "write aiohttp or auto"
        )
    if choice == "socket" and proxy:
        raise BadInput(
            f"workload.transport: socket goes straight to {endpoint.base_url}, "
            f"and {proxy.variable} names a proxy; "
            "write aiohttp or auto, or add the host to NO_PROXY"
        )
    if choice == "socket" or (
        choice == "auto" and not secure and not proxy and sys.platform != "win32"
    ):
        from loadgen.transport.socket_transport import SocketTransport

        return SocketTransport(endpoint)
    from loadgen.transport.aiohttp_transport import AiohttpTransport

    return AiohttpTransport(endpoint)


def open_transports(endpoint: Endpoint, choice: Choice = "auto") -> list[Transport]:
    """A transport for each replica of an endpoint, all of one kind and clock. Raises BadInput."""
    opened = [open_transport(each, choice) for each in endpoint.replicas]
    if len({(each.name, each.clock) for each in opened}) > 1:
        opened = [open_transport(each, "aiohttp") for each in endpoint.replicas]
    return opened
