"""A small streaming API in this event loop. It keeps its requests and refuses what a test says."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

STREAM = (
    b'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": null}]}\n\n'
    b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
    b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}\n\n'
    b"data: [DONE]\n\n"
)


@dataclass
class ReceivedRequest:
    """One request: path and query as in the request line, headers, and the JSON of its body."""

    target: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Api:
    """`answers` gives a response in place of the stream, or None."""

    answers: Callable[[ReceivedRequest], web.Response | None] = lambda request: None
    requests: list[ReceivedRequest] = field(default_factory=list)
    port: int = 0

    @property
    def posts(self) -> list[ReceivedRequest]:
        return [each for each in self.requests if each.body]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.method == "POST" else {}
        received = ReceivedRequest(request.raw_path, dict(request.headers), body)
        self.requests.append(received)
        if answer := self.answers(received):
            return answer
        if request.method == "GET":
            return web.json_response({"data": [{"id": "m", "owned_by": "somebody"}]})
        return web.Response(body=STREAM, content_type="text/event-stream")


@asynccontextmanager
async def serving(api: Api, tls: ssl.SSLContext | None = None) -> AsyncIterator[Api]:
    """The API on a port of its own."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.handle)
    server = TestServer(app, host="127.0.0.1", scheme="https" if tls else "http")
    await server.start_server(ssl=tls)
    assert server.port is not None
    api.port = server.port
    try:
        yield api
    finally:
        await server.close()


def refusal(message: str, param: str | None = None, status: int = 400) -> web.Response:
    return web.json_response(
        {"error": {"message": message, "param": param, "type": "invalid_request_error"}},
        status=status,
    )


def self_signed(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that nobody else signed, and a server's context with it."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=127.0.0.1",
            ),
            *(
                "-addext",
                "subjectAltName=IP:127.0.0.1",
                "-keyout",
                str(key),
                "-out",
                str(certificate),
            ),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context
