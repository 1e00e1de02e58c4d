"""Live endpoints for a round of variants: starts, watches and always stops their servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from foundation.errors import SystemFailed
from foundation.http.endpoint import Endpoint
from foundation.progress import Progress
from serve.key import ServerKey
from serve.placement import own_processors
from serve.plan import ServePlan, ServerPlan
from serve.replicas import endpoints_of, replica_groups
from serve.router import Router
from serve.server import PATIENCE_S, VllmServer
from serve.telemetry import SampledServer, Telemetry
from serve.vllm.failures import ServerFailed
from serve.vllm.sleep import OneAwake, fall_asleep


@dataclass(frozen=True)
class ServerFolders:
    """The folders for what is written of servers; None: it is not written.

    `logs` and `engine`: a log and an engine record a server, named after it. `telemetry`: the
    samples of each variant, `VARIANT.parquet`.
    """

    logs: Path
    telemetry: Path | None = None
    engine: Path | None = None


class Hosting:
    """The servers of a plan, a round at a time.

    `reach`: checks, with the client of the load, that an API elsewhere generates a token. Returns
    the endpoint in the form that this API accepts, or raises SystemFailed.
    `patience`: seconds without a sign of life after which a server hangs.
    `failed`: variants of the present round whose servers failed, with the failures.
    """

    def __init__(
        self,
        plan: ServePlan,
        folders: ServerFolders,
        progress: Progress,
        reach: Callable[[Endpoint], Awaitable[Endpoint]],
        patience: float = PATIENCE_S,
    ) -> None:
        self._plan = plan
        self._folders = folders
        self._progress = progress
        self._reach = reach
        self._patience = patience
        self.failed: dict[str, ServerFailed] = {}
        self._up: list[VllmServer] = []
        self._routers: list[Router] = []
        self._sampling: Telemetry | None = None
        self._one_awake: OneAwake | None = None

    @asynccontextmanager
    async def round(
        self, names: Sequence[str], *, partly: bool = False
    ) -> AsyncIterator[dict[str, Endpoint]]:
        """Endpoints of the named variants by name; each has generated a token.

        Raises SystemFailed if a server or an API fails. With `partly` a server may fail as long as
        another one starts: `failed` has the failure of each of its variants. No process of the
        servers outlives the round, however the round ends.
        """
        others = [v.elsewhere for v in self._plan.elsewhere if v.name in names and v.elsewhere]
        keys: dict[str, ServerKey] = {}
        servers = [
            self._server(plan, keys)
            for plan in self._plan.servers
            if any(variant.name in names for variant in plan.variants)
        ]
        self.failed = {}
        self._up = list(servers)
        try:
            elsewhere = await self._start(servers, others, partly)
            if self._plan.residency == "sleep":
                self._one_awake = OneAwake([endpoints_of(g) for g in replica_groups(self._up)])
            await self._start_routers(partly)
            endpoints = [*elsewhere, *self._served()]
            async with AsyncExitStack() as stack:
                if self._folders.telemetry is not None:
                    telemetry = Telemetry(
                        self._sampled(elsewhere), self._folders.telemetry, self._plan.processors
                    )
                    stack.callback(self._log_troubles, telemetry)
                    self._sampling = await stack.enter_async_context(telemetry)
                yield {e.variant: e for e in endpoints if e.variant in names}
        finally:
            running: list[Router | VllmServer] = [*self._routers, *servers]
            self._up, self._routers = [], []
            self._sampling, self._one_awake = None, None
            for each in running:
                each.release()
            await asyncio.gather(*(each.stop() for each in running))

    def _server(self, plan: ServerPlan, keys: dict[str, ServerKey]) -> VllmServer:
        """A server; replicas have one key, since a router passes it on."""
        folder, config = self._folders.engine, self._plan.config
        record = folder / f"{plan.name}.jsonl" if folder and config.engine_record else None
        processors = self._plan.processors
        if plan.replica and config.device == "cpu":
            processors = own_processors(plan.replica, plan.replicas, processors)
        first = plan.variants[0].name
        if first not in keys:
            keys[first] = ServerKey.of(config.api_key_env)
        plan = replace(plan, processors=processors)
        return VllmServer(plan, config, keys[first], self._folders.logs, self._patience, record)

    async def _start_routers(self, partly: bool) -> None:
        """Starts a router before each group of replicas that has one. Raises ServerFailed."""
        for group in replica_groups(self._up):
            if not group[0].plan.is_routed:
                continue
            router = Router(group, self._plan.config, self._folders.logs)
            self._routers.append(router)
            try:
                await router.start()
            except ServerFailed as failure:
                if not partly:
                    raise
                await self.drop(failure)
        if self.failed and not self._up and not self._plan.elsewhere:
            raise next(iter(self.failed.values()))

    def _served(self) -> list[Endpoint]:
        """An endpoint for each variant whose servers are up."""
        routed = [endpoint for router in self._routers for endpoint in router.endpoints]
        names = {endpoint.variant for endpoint in routed}
        direct = [e for group in replica_groups(self._up) for e in endpoints_of(group)]
        return [*routed, *(each for each in direct if each.variant not in names)]

    def _sampled(self, elsewhere: Sequence[Endpoint]) -> list[SampledServer]:
        """Every server that is up, and every API elsewhere; each replica is one."""
        servers = [
            SampledServer(tuple(each.endpoints), each.pid, each.plan.replica) for each in self._up
        ]
        apis = [
            SampledServer((replica,), None, number if each.others else 0)
            for each in elsewhere
            for number, replica in enumerate(each.replicas, start=1)
        ]
        return [*servers, *apis]

    def _log_troubles(self, telemetry: Telemetry) -> None:
        for trouble in telemetry.troubles:
            self._progress.log(f"telemetry: {trouble}")

    async def drop(self, failure: ServerFailed) -> list[str]:
        """Stop the server that failed and keep the others. Returns all variants it served."""
        dead = [server for server in self._up if self._serves(server, failure.variants)]
        variants = list(
            dict.fromkeys(
                [*failure.variants, *(v.name for server in dead for v in server.plan.variants)]
            )
        )
        self.failed = dict.fromkeys(variants, failure) | self.failed
        if self._one_awake is not None:
            self._one_awake.forget(variants)
        for router in [each for each in self._routers if set(each.variants) & set(variants)]:
            self._routers.remove(router)
            await router.stop()
        for server in dead:
            self._up.remove(server)
            await server.stop()
        return variants

    @staticmethod
    def _serves(server: VllmServer, variants: Iterable[str]) -> bool:
        return not {v.name for v in server.plan.variants}.isdisjoint(variants)

    async def sample(self) -> None:
        """Take a telemetry sample now; a sample on each side of a block encloses its counts."""
        if self._sampling is not None:
            await self._sampling.sample()

    async def ready(self, variants: Sequence[str]) -> None:
        """Make sure that the variants' servers are the ones we started, and awake.

        Raises ServerFailed. It names another variant if that one's server does not fall asleep.
        """
        self.check(variants)
        if self._one_awake is not None:
            for variant in variants:
                await self._one_awake.wake(variant)

    def check(self, variants: Sequence[str]) -> None:
        """Raises ServerFailed if another process than our server listens on a variant's port."""
        for server in self._up:
            if self._serves(server, variants):
                server.check_port()

    async def check_answers(self, endpoint: Endpoint) -> None:
        """Raises ServerFailed if the server of an endpoint generates no token in time."""
        servers = [each for each in self._up if self._serves(each, [endpoint.variant])]
        if servers:
            await asyncio.gather(*(server.check_answers() for server in servers))
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
        """Wait until a server of the present round (or of these variants) dies or hangs.

        Raises ServerFailed with the cause and the log's errors.
        """
        servers = [
            server for server in self._up if variants is None or self._serves(server, variants)
        ]
        routers = [
            router
            for router in self._routers
            if variants is None or set(router.variants) & set(variants)
        ]
        watched: list[VllmServer | Router] = [*servers, *routers]
        watching = [asyncio.ensure_future(each.watch()) for each in watched]
        try:
            await asyncio.gather(*watching, asyncio.Event().wait())
        finally:
            for task in watching:
                task.cancel()

    async def _start(
        self, servers: Sequence[VllmServer], elsewhere: Sequence[Endpoint], partly: bool
    ) -> list[Endpoint]:
        """Start the servers; returns the endpoints elsewhere as `reach` settled them."""
        count = len(servers) + len(elsewhere)
        what = "start servers" if servers else "reach servers"
        self._progress.stage(what, count, "server" if count == 1 else "servers")
        limit = asyncio.Semaphore(self._plan.starts_together)
        reaching = [asyncio.ensure_future(self._reach_one(endpoint)) for endpoint in elsewhere]
        starting = [
            asyncio.ensure_future(self._start_one(server, limit, partly)) for server in servers
        ]
        try:
            await asyncio.gather(*reaching, *starting)
        finally:
            for task in (*reaching, *starting):
                task.cancel()
            await asyncio.gather(*reaching, *starting, return_exceptions=True)
        if self.failed and not self._up and not elsewhere:
            raise next(iter(self.failed.values()))
        return [task.result() for task in reaching]

    async def _start_one(self, server: VllmServer, limit: asyncio.Semaphore, partly: bool) -> None:
        async with limit:
            if server not in self._up:  # another replica failed, and its variants with it
                return
            try:
                seconds = await server.start()
                # Asleep, it leaves the next one its memory.
                if self._plan.residency == "sleep":
                    await fall_asleep(server.endpoints[0])
            except ServerFailed as failure:
                if not partly:
                    raise
                if server not in self._up:
                    return
                await self.drop(failure)
                self._progress.advance(1, f"{server.plan.name} failed")
                return
        self._progress.advance(1, f"{server.plan.name} up in {seconds:.0f} s")

    async def _reach_one(self, endpoint: Endpoint) -> Endpoint:
        settled = await self._reach(endpoint)
        self._progress.advance(1, f"{endpoint.variant} answers")
        for note in settled.notes:
            self._progress.log(f"{endpoint.variant}: {note}")
        return settled
