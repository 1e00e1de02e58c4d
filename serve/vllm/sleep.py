"""One server awake at a time, the others in vLLM's sleep mode: blocks alternate where memory holds only one.

A server in level 1 sleep keeps its weights in the host's memory and gives up its KV cache: it wakes with an empty prefix cache.
It needs `--enable-sleep-mode`, `VLLM_SERVER_DEV_MODE=1` for its routes, and CUDA or ROCm (vLLM's documentation, "Sleep Mode").
Tested against an imitation of its routes. On an H100 with vLLM 0.26 a 135 M model fell asleep in 0.1 s and woke in 0.4 s.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import aiohttp

from foundation.errors import SystemFailed
from foundation.http.aiohttp_session import address
from foundation.http.endpoint import Endpoint
from serve.readiness import generate_token, session
from serve.vllm.failures import ServerFailed

OPTION = "--enable-sleep-mode"
ENVIRONMENT = {"VLLM_SERVER_DEV_MODE": "1"}


async def fall_asleep(endpoint: Endpoint) -> None:
    """Put an idle server to sleep. Raises ServerFailed where it does not."""
    async with session(endpoint) as web:
        await _ask(web, endpoint, "POST", "/sleep?level=1")
        if not await _asleep(web, endpoint):
            raise _failed(endpoint, "did not fall asleep")


async def wake_up(endpoint: Endpoint) -> None:
    """Wake a server and have it generate a token, so that no measured request finds it half awake. Raises ServerFailed."""
    async with session(endpoint) as web:
        await _ask(web, endpoint, "POST", "/wake_up")
        if await _asleep(web, endpoint):
            raise _failed(endpoint, "did not wake up")
        try:
            await generate_token(web, endpoint)
        except SystemFailed as refusal:
            raise ServerFailed(str(refusal), refusal.detail, [endpoint.variant]) from None


async def _ask(web: aiohttp.ClientSession, endpoint: Endpoint, method: str, route: str) -> str:
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


def _failed(endpoint: Endpoint, what: str, detail: str = "") -> ServerFailed:
    return ServerFailed(f"the server of {endpoint.variant} {what}", detail, [endpoint.variant])


async def _asleep(web: aiohttp.ClientSession, endpoint: Endpoint) -> bool:
    return bool(json.loads(await _ask(web, endpoint, "GET", "/is_sleeping"))["is_sleeping"])


class OneAwake:
    """Servers by their endpoints, those of one server together: `wake(variant)` leaves only the server of that variant awake."""

    def __init__(self, servers: Sequence[Sequence[Endpoint]]) -> None:
        """All of them asleep."""
        self._servers = {
            endpoint.variant: endpoints[0] for endpoints in servers for endpoint in endpoints
        }
        self._awake: Endpoint | None = None

    async def wake(self, variant: str) -> None:
        """Raises ServerFailed where a server does not sleep or wake. A variant that is served elsewhere lets the others be."""
        wanted = self._servers.get(variant)
        if wanted is None or wanted == self._awake:
            return
        if self._awake is not None:
            await fall_asleep(self._awake)
            self._awake = None
        await wake_up(wanted)
        self._awake = wanted

    def forget(self, variants: Iterable[str]) -> None:
        """These are served no more."""
        gone = {
            endpoint.variant
            for endpoint in map(self._servers.get, variants)
            if endpoint is not None
        }
        if self._awake is not None and self._awake.variant in gone:
            self._awake = None
