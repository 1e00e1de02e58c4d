"""Sends requests through aiohttp: TLS, proxies and any server.

Bytes are stamped when the event loop passes them on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace, TracebackType
from typing import Literal, Self

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from foundation.http.aiohttp_session import address, open_session
from foundation.http.endpoint import Endpoint
from foundation.run.records import Failure, ReceiverKind
from loadgen.transport.content_coding import inflater
from loadgen.transport.exchange import BrokenExchange, Exchange
from loadgen.transport.key_headers import KEY, key_headers


class AiohttpTransport:
    """One aiohttp session without limits or timeouts: the caller has pacing and deadlines."""

    name = "aiohttp"
    clock: Literal["kernel", "user"] = "user"
    receiver: ReceiverKind | None = None
    clock_step_ns = 0

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._json = {"Content-Type": "application/json"}
        self._key_headers = key_headers(endpoint)

    async def __aenter__(self) -> Self:
        no_timeouts = aiohttp.ClientTimeout(total=None, sock_connect=None)
        self._session = open_session(self._endpoint, no_timeouts, "text/event-stream", [_stamps()])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def send(self, exchange: Exchange, path: str, body: bytes | None) -> None:
        """Sends one request, as `Transport.send` says."""
        method, headers = ("GET", {}) if body is None else ("POST", self._json)
        if exchange.key:
            named = self._key_headers.items()
            headers = headers | {name: value.replace(KEY, exchange.key) for name, value in named}
        try:
            async with self._session.request(
                method,
                address(self._endpoint, self._endpoint.target(path)),
                data=body,
                headers=headers,
                allow_redirects=False,
                trace_request_ctx=exchange,
            ) as response:
                exchange.status = response.status
                exchange.location = response.headers.get("Location")
                exchange.compression = inflater(
                    response.headers.get("Content-Encoding", "").encode("utf-8", "replace")
                )
                with _ended_with_its_connection(response):
                    while data := await response.content.readany():
                        now = time.monotonic_ns()
                        exchange.received(data, now, now)
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            raise BrokenExchange(_failure(error, exchange), _words(error)) from error


@contextmanager
def _ended_with_its_connection(response: aiohttp.ClientResponse) -> Iterator[None]:
    """Ends the body when its connection ends.

    aiohttp closes a connection whose body is wrongly coded, and leaves a reader of that body
    waiting.
    """

    def end_body(_: asyncio.Future[None] | None = None) -> None:
        if not response.content.is_eof() and response.content.exception() is None:
            response.content.set_exception(
                BrokenExchange("malformed", "the body is not coded as its head says")
            )

    protocol = None if response.connection is None else response.connection.protocol
    lost = None if protocol is None else protocol.closed
    if lost is None:
        end_body()
        yield
        return
    lost.remove_done_callback(_note_why)  # one a connection, which serves many requests
    lost.add_done_callback(_note_why)
    lost.add_done_callback(end_body)
    try:
        yield
    finally:
        lost.remove_done_callback(end_body)


def _note_why(lost: asyncio.Future[None]) -> None:
    """Retrieves the exception, because asyncio logs one that nobody retrieved."""
    if not lost.cancelled():
        lost.exception()


def _words(error: Exception) -> str:
    """The text of an error. aiohttp's own shows a proxy's address with user and password."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answered {error.status} {error.message}"
    return f"{type(error).__name__}: {error}"


def _failure(error: Exception, exchange: Exchange) -> Failure:
    if isinstance(error, (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch)):
        return "tls"
    if (
        isinstance(error, (aiohttp.ClientConnectorError, aiohttp.InvalidURL))
        or not exchange.connected
    ):
        return "connect"
    if isinstance(error, (aiohttp.ClientResponseError, HttpProcessingError)):
        return "malformed"
    if isinstance(error, aiohttp.ClientPayloadError) and "ConnectionResetError" not in str(error):
        # aiohttp names a reset only in the text of the error that says the body is short.
        return "truncated"
    return "reset"


def _stamps() -> aiohttp.TraceConfig:
    """Tells the exchange when its connection was open and when its last byte was sent."""
    trace = aiohttp.TraceConfig()

    async def connected(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.connected = True

    async def sent(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.sent_ns = time.monotonic_ns()

    trace.on_connection_create_end.append(connected)
    trace.on_connection_reuseconn.append(connected)
    trace.on_request_headers_sent.append(sent)
    trace.on_request_chunk_sent.append(sent)
    return trace
