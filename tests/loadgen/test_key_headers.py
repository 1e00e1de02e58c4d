"""The headers that name a request, as a server gets them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from foundation.http.endpoint import Endpoint
from foundation.run.engine_record import request_key
from loadgen.event_loop import run
from loadgen.transport import open_transport
from loadgen.transport.exchange import Backlog, Exchange
from tests.loadgen.api import Api, serving

KEY = "00000000075bcd15000000000000002a"
NAMED = ("x-request-id", "traceparent")


class Nothing:
    """A sink that needs no body."""

    def feed(self, pieces: list[bytes], arrived_ns: list[int], read_ns: list[int]) -> None: ...


def sent(transport: str, key: str, body: bytes | None, **fields: Any) -> dict[str, str]:
    """The naming headers that the server got."""

    async def main() -> dict[str, str]:
        async with serving(Api()) as api:
            endpoint = Endpoint("v", f"http://127.0.0.1:{api.port}/v1", "m", **fields)
            async with open_transport(endpoint, transport) as opened:
                exchange = Exchange(Nothing(), time.monotonic_ns(), Backlog(), key)
                await opened.send(exchange, "/chat/completions", body)
        headers = {name.lower(): value for name, value in api.requests[0].headers.items()}
        return {name: value for name, value in headers.items() if name in NAMED}

    return run(main())


@pytest.mark.parametrize("transport", ["socket", "aiohttp"])
def test_a_request_bears_its_key_and_where_traces_are_taken_a_trace_parent(transport: str) -> None:
    assert request_key(123456789, 42) == KEY
    assert sent(transport, KEY, b"{}") == {"x-request-id": KEY}
    traced = {"x-request-id": KEY, "traceparent": f"00-{KEY}-0000000000000001-01"}
    assert sent(transport, KEY, b"{}", traced=True) == traced
    assert sent(transport, "", None, traced=True) == {}


@pytest.mark.parametrize("transport", ["socket", "aiohttp"])
def test_a_user_s_own_header_of_that_name_stays_as_it_is(transport: str) -> None:
    own = {"x-request-ID": "{key}"}
    traced = {"x-request-id": "{key}", "traceparent": f"00-{KEY}-0000000000000001-01"}
    assert sent(transport, KEY, b"{}", traced=True, more_headers=own) == traced
