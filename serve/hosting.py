"""Live endpoints for a round of variants: servers started together, watched, and stopped whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from foundation.endpoint import Endpoint
from foundation.progress import Progress
from serve.config import ServeConfig
from serve.plan import ServePlan
from serve.server import Server
from serve.sleep import OneAwake, fall_asleep
from serve.telemetry import Telemetry


class Hosting:
    """The servers of a plan, a round at a time. With `telemetry`, each variant's samples go to `telemetry/VARIANT.parquet`.

    `reach` makes sure that an API elsewhere generates a token, by the client that will load it, and gives the endpoint as
    that API wants to be asked. It raises SystemFailed.
    """

    def __init__(
        self,
        plan: ServePlan,
        config: ServeConfig,
        logs: Path,
        progress: Progress,
        reach: Callable[[Endpoint], Awaitable[Endpoint]],
        telemetry: Path | None = None,
    ) -> None:
        self._plan = plan
        self._config = config
        self._logs = logs
        self._progress = progress
        self._reach = reach
        self._telemetry = telemetry
        self._up: list[Server] = []
        self._watched: list[Telemetry] = []
        self._one_awake: OneAwake | None = None

    @asynccontextmanager
    async def round(self, names: Sequence[str]) -> AsyncIterator[dict[str, Endpoint]]:
        """Endpoints of the named variants, each of which has generated a token. Raises SystemFailed where one can't.

        No process of theirs is left when this ends, however it ends.
        """
        named = [v.elsewhere for v in self._plan.elsewhere if v.name in names and v.elsewhere]
        servers = [
            Server(plan, self._config, self._logs)
            for plan in self._plan.servers
            if any(variant.name in names for variant in plan.variants)
        ]
        self._up = servers
        try:
            elsewhere = await self._start(servers, named)
            if self._plan.residency == "sleep":
                self._one_awake = OneAwake([server.endpoints for server in servers])
            endpoints = [*elsewhere, *(e for server in servers for e in server.endpoints)]
            async with AsyncExitStack() as stack:
                if self._telemetry is not None:
                    watched = [*((server.endpoints, server.pid) for server in servers), *(([e], None) for e in elsewhere)]
                    self._watched = [
                        await stack.enter_async_context(Telemetry(endpoints, pid, self._telemetry)) for endpoints, pid in watched
                    ]
                yield {e.variant: e for e in endpoints if e.variant in names}
        finally:
            self._up, self._watched, self._one_awake = [], [], None
            for server in servers:
                server.release()
            await asyncio.gather(*(server.stop() for server in servers))

    async def sample(self) -> None:
        """Have the telemetry look now: between two such looks lies what a block did."""
        await asyncio.gather(*(each.sample() for each in self._watched))

    async def ready(self, variant: str) -> None:
        """Make sure that the variant's server is awake. Raises SystemFailed where it does not wake, or another not sleep."""
        if self._one_awake is not None:
            await self._one_awake.wake(variant)

    async def watch(self) -> None:
        """Wait for a server of the present round to die, and raise SystemFailed with the cause and the end of its log."""
        watching = [asyncio.ensure_future(server.watch()) for server in self._up]
        try:
            await asyncio.gather(*watching, asyncio.Event().wait())
        finally:
            for task in watching:
                task.cancel()

    async def _start(self, servers: Sequence[Server], elsewhere: Sequence[Endpoint]) -> list[Endpoint]:
        """Start the servers; the endpoints elsewhere as they want to be asked."""
        self._progress.stage("start servers", len(servers) + len(elsewhere), "servers")
        a_few_at_once = asyncio.Semaphore(self._plan.starts_together)

        async def start(server: Server) -> None:
            async with a_few_at_once:
                seconds = await server.start()
                if self._plan.residency == "sleep":  # so that the next one finds the memory free
                    await fall_asleep(server.endpoints[0])
            self._progress.advance(1, f"{server.plan.name} up in {seconds:.0f} s")

        async def reach(endpoint: Endpoint) -> Endpoint:
            settled = await self._reach(endpoint)
            self._progress.advance(1, f"{endpoint.variant} answers")
            for note in settled.notes:
                self._progress.log(f"{endpoint.variant}: {note}")
            return settled

        reaching = [asyncio.ensure_future(reach(endpoint)) for endpoint in elsewhere]
        starting = [asyncio.ensure_future(start(server)) for server in servers]
        try:
            await asyncio.gather(*reaching, *starting)
            return [task.result() for task in reaching]
        finally:
            for task in (*reaching, *starting):
                task.cancel()
            await asyncio.gather(*reaching, *starting, return_exceptions=True)
