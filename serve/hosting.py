"""Live endpoints for a round of variants: starts, watches and always stops their servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from foundation.errors import SystemFailed
from foundation.http.endpoint import Endpoint
from foundation.progress import Progress
from serve.plan import ServePlan, ServerPlan
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
        servers = [
            self._server(plan)
            for plan in self._plan.servers
            if any(variant.name in names for variant in plan.variants)
        ]
        self.failed = {}
        self._up = list(servers)
        try:
            elsewhere = await self._start(servers, others, partly)
            if self._plan.residency == "sleep":
                self._one_awake = OneAwake([server.endpoints for server in self._up])
            endpoints = [*elsewhere, *(e for server in self._up for e in server.endpoints)]
            async with AsyncExitStack() as stack:
                if self._folders.telemetry is not None:
                    telemetry = Telemetry(
                        self._sampled(elsewhere), self._folders.telemetry, self._plan.processors
                    )
                    stack.callback(self._log_troubles, telemetry)
                    self._sampling = await stack.enter_async_context(telemetry)
                yield {e.variant: e for e in endpoints if e.variant in names}
        finally:
            self._up, self._sampling, self._one_awake = [], None, None
            for server in servers:
                server.release()
            await asyncio.gather(*(server.stop() for server in servers))

    def _server(self, plan: ServerPlan) -> VllmServer:
        folder, config = self._folders.engine, self._plan.config
        record = folder / f"{plan.name}.jsonl" if folder and config.engine_record else None
        return VllmServer(
            plan, config, self._folders.logs, self._patience, record, self._plan.processors
        )

    def _sampled(self, elsewhere: Sequence[Endpoint]) -> list[SampledServer]:
        """Every server that is up, and every API elsewhere."""
        servers = [SampledServer(tuple(each.endpoints), each.pid) for each in self._up]
        return [*servers, *(SampledServer((each,), None) for each in elsewhere)]

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
        self.failed |= dict.fromkeys(variants, failure)
        if self._one_awake is not None:
            self._one_awake.forget(variants)
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
        """Wait until a server of the present round (or of these variants) dies or hangs.

        Raises ServerFailed with the cause and the log's errors.
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
        self, servers: Sequence[VllmServer], elsewhere: Sequence[Endpoint], partly: bool
    ) -> list[Endpoint]:
        """Start the servers; returns the endpoints elsewhere as `reach` settled them."""
        self._progress.stage("start servers", len(servers) + len(elsewhere), "servers")
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
            try:
                seconds = await server.start()
                # Asleep, it leaves the next one its memory.
                if self._plan.residency == "sleep":
                    await fall_asleep(server.endpoints[0])
            except ServerFailed as failure:
                if not partly:
                    raise
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
