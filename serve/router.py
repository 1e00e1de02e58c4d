"""The program vllm-router before the replicas of a server, as one address for each variant."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from foundation.errors import SystemFailed
from foundation.http.endpoint import Endpoint
from serve.config import ServeConfig
from serve.placement import ROUTER_PACKAGE
from serve.ports import HeldPort, held_port, listeners, reached_at
from serve.readiness import generate_token, is_healthy, session
from serve.replicas import endpoints_of
from serve.server import VllmServer
from serve.supervised import Supervised
from serve.vllm.failures import ServerFailed, last_words

_POLL_S = 0.2
_START_S = 120.0


class Router:
    """A router of replicas that are up. It gives each request to one of them, in turns.

    It repeats no request and leaves no replica out: failures are the replicas', and are counted.
    """

    def __init__(self, group: Sequence[VllmServer], config: ServeConfig, logs: Path) -> None:
        self.group = group
        self._config = config
        self._log = logs / f"{group[0].plan.variants[0].name}.router.log"
        self._run = Supervised(self._log)
        self._port: HeldPort | None = None

    @property
    def variants(self) -> list[str]:
        """The variants that it routes requests for."""
        return [variant.name for variant in self.group[0].plan.variants]

    @property
    def endpoints(self) -> list[Endpoint]:
        """The router's address for each variant."""
        assert self._port is not None
        url = f"http://{reached_at(self._config.host)}:{self._port.number}/v1"
        return [
            replace(each, base_url=url, others=(), routed=each.replicas)
            for each in endpoints_of(self.group)
        ]

    async def start(self) -> None:
        """Starts, and waits until each variant has generated a token. Raises ServerFailed."""
        self._port = self._run.hold(held_port(self._config.ports, self._config.host))
        metrics = self._run.hold(held_port(self._config.ports))
        workers = [each.endpoints[0].base_url.removesuffix("/v1") for each in self.group]
        arguments = (
            f"--host={self._config.host}",
            f"--port={self._port.number}",
            f"--prometheus-port={metrics.number}",
            "--policy=round_robin",
            "--disable-retries",
            "--disable-circuit-breaker",
            "--worker-urls",
            *workers,
        )
        self._run.launch(f"{ROUTER_PACKAGE}.launch_router", arguments, lambda _: os.environ)
        try:
            async with asyncio.timeout(_START_S):
                await self._until_ready()
        except TimeoutError:
            failure = self._failure(f"not ready after {_START_S:g} s")
            failure.detail = last_words(self._run.text())
            raise failure from None

    async def _until_ready(self) -> None:
        """Sends nothing before the port is known to be ours: no stranger gets the key."""
        assert self._port is not None
        host, number = self._config.host, self._port.number
        while not listeners(number, self._run.family(), host).ours:
            self._raise_if_dead("while it started")
            await asyncio.sleep(_POLL_S)
        self._port.close_to_others()
        async with session(self.endpoints[0]) as web:
            while not await is_healthy(web, self.endpoints[0]):
                self._raise_if_dead("while it started")
                await asyncio.sleep(_POLL_S)
            for endpoint, variant in zip(self.endpoints, self.group[0].plan.variants, strict=True):
                try:
                    await generate_token(web, endpoint, variant.api)
                except SystemFailed as refusal:
                    detail = f"{refusal.detail}\n{last_words(self._run.text())}"
                    raise ServerFailed(f"{refusal} (router)", detail, self.variants) from None

    async def watch(self) -> None:
        """Never return; raise ServerFailed if the router is gone."""
        while True:
            self._raise_if_dead("while it was under load")
            await asyncio.sleep(_POLL_S)

    def _raise_if_dead(self, when: str) -> None:
        if (status := self._run.status) is not None:
            raise self._failure(f"ended {when}, with status {status}")

    def _failure(self, what: str) -> ServerFailed:
        sentence = f"the router of {', '.join(self.variants)} {what}; its log: {self._log}"
        return ServerFailed(sentence, last_words(self._run.text()), self.variants)

    def release(self) -> None:
        """Tell the supervisor to stop it, without waiting."""
        self._run.release()

    async def stop(self) -> None:
        """Stop it, and wait until nothing of it is left."""
        await self._run.stop()
