"""Live endpoints for a round of variants: servers started together, watched, and stopped whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from foundation.errors import SystemFailed
from foundation.http.endpoint import Endpoint
from foundation.progress import Progress
from serve.config import ServeConfig
from serve.plan import ServePlan
from serve.server import PATIENCE_S, Server
from serve.telemetry import Telemetry
from serve.vllm.failures import ServerFailed
from serve.vllm.sleep import OneAwake, fall_asleep


class Hosting:
    """The servers of a plan, a round at a time. With `telemetry`, each variant's samples go to `telemetry/VARIANT.parquet`.

    `reach` makes sure that an API elsewhere generates a token, by the client that will load it, and gives the endpoint as
    that API wants to be asked. It raises SystemFailed. `patience`: seconds without a sign of life after which a server hangs.
    """

    def __init__(
        self,
        plan: ServePlan,
        config: ServeConfig,
        logs: Path,
        progress: Progress,
        reach: Callable[[Endpoint], Awaitable[Endpoint]],
        telemetry: Path | None = None,
        patience: float = PATIENCE_S,
    ) -> None:
        self._plan = plan
        self._config = config
        self._logs = logs
        self._progress = progress
        self._reach = reach
        self._telemetry = telemetry
        self._patience = patience
        self.failed: dict[str, ServerFailed] = {}
        self._up: list[Server] = []
        self._watched: list[Telemetry] = []
        self._one_awake: OneAwake | None = None

    @asynccontextmanager
    async def round(
        self, names: Sequence[str], *, partly: bool = False
    ) -> AsyncIterator[dict[str, Endpoint]]:
        """Endpoints of the named variants, each of which has generated a token. Raises SystemFailed where one can't.

        With `partly` a server that does not start is no error as long as another one does: `failed` says, by variant, why it
        is missing. No process of theirs is left when this ends, however it ends.
        """
        named = [v.elsewhere for v in self._plan.elsewhere if v.name in names and v.elsewhere]
        servers = [
            Server(plan, self._config, self._logs, self._patience)
            for plan in self._plan.servers
            if any(variant.name in names for variant in plan.variants)
        ]
        self.failed = {}
        self._up = list(servers)
        try:
            elsewhere = await self._start(servers, named, partly)
            if self._plan.residency == "sleep":
                self._one_awake = OneAwake([server.endpoints for server in self._up])
            endpoints = [*elsewhere, *(e for server in self._up for e in server.endpoints)]
            async with AsyncExitStack() as stack:
                if self._telemetry is not None:
                    watched = [
                        *((server.endpoints, server.pid) for server in self._up),
                        *(([e], None) for e in elsewhere),
                    ]
                    self._watched = [
                        await stack.enter_async_context(Telemetry(endpoints, pid, self._telemetry))
                        for endpoints, pid in watched
                    ]
                yield {e.variant: e for e in endpoints if e.variant in names}
            for telemetry in self._watched:
                if telemetry.trouble:
                    self._progress.log(f"telemetry: {telemetry.trouble}")
        finally:
            self._up, self._watched, self._one_awake = [], [], None
            for server in servers:
                server.release()
            await asyncio.gather(*(server.stop() for server in servers))

    async def drop(self, failure: ServerFailed) -> list[str]:
        """Stop the server that failed; the others go on. Returns all variants that failed with it."""
        dead = [server for server in self._up if self._serves(server, failure.variants)]
        variants = list(
            dict.fromkeys(
                [*failure.variants, *(v.name for server in dead for v in server.plan.variants)]
            )
        )
        self.failed |= dict.fromkeys(variants, failure)
        if self._one_awake is not None:
            self._one_awake.forget(variants)
        for server in dead:
            self._up.remove(server)
            await server.stop()
        return variants

    @staticmethod
    def _serves(server: Server, variants: Iterable[str]) -> bool:
        return not {v.name for v in server.plan.variants}.isdisjoint(variants)

    async def sample(self) -> None:
        """Have the telemetry look now: between two such looks lies what a block did."""
        await asyncio.gather(*(each.sample() for each in self._watched))

    async def ready(self, variants: Sequence[str]) -> None:
        """Make sure that the variants' servers are the ones we started, and awake. Raises ServerFailed, of another variant
        where that one's server does not sleep.
        """
        self.check(variants)
        if self._one_awake is not None:
            for variant in variants:
                await self._one_awake.wake(variant)

    def check(self, variants: Sequence[str]) -> None:
        """Raises ServerFailed where what listens on a port of theirs is not the server that we started."""
        for server in self._up:
            if self._serves(server, variants):
                server.check_port()

    async def check_answers(self, endpoint: Endpoint) -> None:
        """Raises ServerFailed where the server of an endpoint of this round generates no token in time."""
        server = next(
            (server for server in self._up if self._serves(server, [endpoint.variant])), None
        )
        if server is not None:
            await server.check_answers()
            return
        try:
            async with asyncio.timeout(self._patience):
                await self._reach(endpoint)
        except TimeoutError:
            words = f"{endpoint.variant} hangs: it generated no token in {self._patience:g} s"
            raise ServerFailed(words, "", [endpoint.variant]) from None
        except SystemFailed as refusal:
            raise ServerFailed(str(refusal), refusal.detail, [endpoint.variant]) from None

    async def watch(self, variants: Sequence[str] | None = None) -> None:
        """Wait for a server of the present round (or of some variants) to die or hang.

        Raises ServerFailed with the cause and what its log says of it.
        """
        servers = [
            server for server in self._up if variants is None or self._serves(server, variants)
        ]
        watching = [asyncio.ensure_future(server.watch()) for server in servers]
        try:
            await asyncio.gather(*watching, asyncio.Event().wait())
        finally:
            for task in watching:
                task.cancel()

    async def _start(
        self, servers: Sequence[Server], elsewhere: Sequence[Endpoint], partly: bool
    ) -> list[Endpoint]:
        """Start the servers; the endpoints elsewhere as they want to be asked."""
        self._progress.stage("start servers", len(servers) + len(elsewhere), "servers")
        a_few_at_once = asyncio.Semaphore(self._plan.starts_together)

        async def start(server: Server) -> None:
            async with a_few_at_once:
                try:
                    seconds = await server.start()
                    if (
                        self._plan.residency == "sleep"
                    ):  # so that the next one finds the memory free
                        await fall_asleep(server.endpoints[0])
                except ServerFailed as failure:
                    if not partly:
                        raise
                    await self.drop(failure)
                    self._progress.advance(1, f"{server.plan.name} failed")
                    return
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
        finally:
            for task in (*reaching, *starting):
                task.cancel()
            await asyncio.gather(*reaching, *starting, return_exceptions=True)
        if self.failed and not self._up and not elsewhere:
            raise next(iter(self.failed.values()))
        return [task.result() for task in reaching]
