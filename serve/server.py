"""One vLLM server: its processes from start to stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from foundation.errors import SystemFailed
from foundation.files.cache_folder import cache_folder
from foundation.http.endpoint import Endpoint
from serve.config import ServeConfig
from serve.key import ServerKey
from serve.plan import ServerPlan
from serve.ports import HeldPort, Listeners, held_port, listeners, reached_at
from serve.readiness import generate_token, is_healthy, session
from serve.supervised import Supervised
from serve.vllm import engine_record, sleep
from serve.vllm.arguments import environment, server_module, template_option
from serve.vllm.failures import ServerFailed, TakenOver, explain, last_words, telling_lines

_POLL_S = 0.2
_DYING_POLLS = 50
_STOPPED_S = 5.0
"""A process in state "stopped" for so long did not just pause: somebody stopped it."""
_CHECK_STOPPED_S = 1.0
_HEALTH_S = 5.0
PATIENCE_S = 60.0
"""How long a server under load may take to answer `/health`."""
_UNDER_LOAD = "while it was under load"


class VllmServer:
    """A vLLM server under a `supervisor`, which stops all its processes whatever happens to ours.

    It works in its own temporary folder, and only its processes may listen on its port.
    `patience`: seconds without a sign of life after which it hangs. `record`: the file of its
    engine record; None writes none. `key`: what requests must carry.
    """

    def __init__(
        self,
        plan: ServerPlan,
        config: ServeConfig,
        key: ServerKey,
        logs: Path,
        patience: float = PATIENCE_S,
        record: Path | None = None,
    ) -> None:
        self.plan = plan
        self.log = logs / f"{plan.name}.log"
        self._config = config
        self._patience = patience
        self._record = record
        self._run = Supervised(self.log, plan.processors)
        self._key = key
        self._port: HeldPort | None = None

    @property
    def endpoints(self) -> list[Endpoint]:
        """One endpoint for each variant."""
        host = reached_at(self._config.host)
        url = f"http://{host}:{self._port.number if self._port else 0}/v1"
        key, masks = self._key.value, self._key.masks
        return [Endpoint(v.name, url, v.name, key, secrets=masks) for v in self.plan.variants]

    @property
    def pid(self) -> int | None:
        """Process id of the supervisor, the root of the server's process tree."""
        return self._run.pid

    async def start(self) -> float:
        """Start, and wait until every variant has generated a token. Returns the seconds it took.

        Raises ServerFailed.
        """
        began = time.monotonic()
        self._launch()
        try:
            async with asyncio.timeout(self._config.start_timeout):
                await self._until_ready()
        except TimeoutError:
            failure = self._failure(
                f"not ready after {self._config.start_timeout:g} s (serve.start_timeout)"
            )
            failure.detail = failure.detail or last_words(self._run.text())
            raise failure from None
        return time.monotonic() - began

    def _launch(self) -> None:
        self._port = self._run.hold(held_port(self._config.ports, self._config.host))
        self.log.parent.mkdir(parents=True, exist_ok=True)
        template = template_option(self.plan.template, self.log.with_suffix(".chat_template.jinja"))
        arguments = (
            f"--host={self._config.host}",
            f"--port={self._port.number}",
            *template,
            *self.plan.arguments,
            *((engine_record.OPTION,) if self._record is not None else ()),
        )
        shown = [f"{name}={value}" for name, value in self.plan.variables.items()]
        self._run.launch(server_module(), arguments, self._environment, shown)

    def _environment(self, folder: Path) -> dict[str, str]:
        """Puts temporary files into the server's folder, torch's compiled code into the cache."""
        ours = {"TMPDIR": str(folder), "VLLM_RPC_BASE_PATH": str(folder)}
        asleep = sleep.ENVIRONMENT if sleep.OPTION in self.plan.arguments else {}
        variables = environment(self._key.value) | dict(self.plan.variables) | ours | asleep
        if self._record is not None:
            variables |= engine_record.environment(self._record, variables)
        # Not as the first variable: vLLM sets it again, and a process's title lies at the first.
        variables.setdefault(
            "TORCHINDUCTOR_CACHE_DIR", str(cache_folder().absolute() / "torchinductor")
        )
        return variables

    async def _until_ready(self) -> None:
        """Wait for the port, for `/health` and for tokens.

        Sends nothing before the port is known to be ours: no stranger gets the key.
        """
        while not self._who_listens().ours:
            self._raise_if_dead("while it started")
            await asyncio.sleep(_POLL_S)
        assert self._port is not None
        self._port.close_to_others()
        self.check_port()
        async with session(self.endpoints[0]) as web:
            while not await is_healthy(web, self.endpoints[0]):
                self._raise_if_dead("while it started")
                await asyncio.sleep(_POLL_S)
            for endpoint, variant in zip(self.endpoints, self.plan.variants, strict=True):
                try:
                    await generate_token(web, endpoint, variant.api)
                except SystemFailed as refusal:
                    # An engine that dies of the request takes the server with it, in seconds.
                    for _ in range(_DYING_POLLS):
                        self._raise_if_dead("at its first token")
                        await asyncio.sleep(_POLL_S)
                    detail = f"{refusal.detail}\n{telling_lines(self._run.text())}"
                    raise self._refused(refusal, detail) from None

    @property
    def _words(self) -> str:
        who = f"replica {self.plan.replica}" if self.plan.replica else "the server"
        return f"{who} of {', '.join(self._variants)}"

    @property
    def _variants(self) -> list[str]:
        return [variant.name for variant in self.plan.variants]

    def check_port(self) -> None:
        """Raises ServerFailed if this server does not listen on its port or shares it."""
        self._raise_if_dead(_UNDER_LOAD)
        if not self._who_listens().ours:
            raise self._failure("does not listen on its port any more")

    def _who_listens(self) -> Listeners:
        """Raises ServerFailed if a process outside this server listens on its port."""
        assert self._port is not None
        listening = listeners(self._port.number, self._run.family(), self._config.host)
        if listening.strangers:
            raise self._failure(
                f"does not have its port {self._port.number} for itself: "
                f"{', '.join(listening.strangers)} listens there; "
                "end that, or give serve.ports a range of free ones",
                TakenOver,
            )
        return listening

    async def watch(self) -> None:
        """Never return; raise ServerFailed if the server is gone or gives no sign of life."""
        family, last_running = list(_processes(self._run.family())), time.monotonic()
        next_check = last_running
        over = asyncio.Event()
        health = asyncio.ensure_future(self._until_silent(over))
        try:
            while not health.done():
                self._raise_if_dead(_UNDER_LOAD)
                # Seldom: the check shares the event loop with the load.
                if time.monotonic() >= next_check:
                    next_check += _CHECK_STOPPED_S
                    if (stopped := next(filter(_is_stopped, family), None)) is None:
                        last_running = time.monotonic()
                    elif time.monotonic() - last_running > min(_STOPPED_S, self._patience):
                        raise self._failure(
                            f"hangs: its process {stopped.pid} was stopped (SIGSTOP)"
                        )
                await asyncio.sleep(_POLL_S)
            await health
        finally:
            over.set()  # aiohttp mistakes a cancellation for its own timeout if both coincide
            health.cancel()

    async def _until_silent(self, over: asyncio.Event) -> None:
        """Raises ServerFailed if `/health` neither answers nor refuses in time."""
        async with session(self.endpoints[0]) as web:
            while not over.is_set():
                try:
                    async with asyncio.timeout(self._patience):
                        await is_healthy(web, self.endpoints[0])
                except TimeoutError:
                    raise self._failure(
                        f"hangs: it did not answer /health for {self._patience:g} s"
                    ) from None
                await asyncio.sleep(_HEALTH_S)

    async def check_answers(self) -> None:
        """Raises ServerFailed if the server does not generate a token in time."""
        async with session(self.endpoints[0]) as web:
            try:
                async with asyncio.timeout(self._patience):
                    await generate_token(web, self.endpoints[0], self.plan.variants[0].api)
            except TimeoutError:
                raise self._failure(
                    f"hangs: it generated no token in {self._patience:g} s"
                ) from None
            except SystemFailed as refusal:
                raise self._refused(refusal, refusal.detail) from None

    def _raise_if_dead(self, when: str) -> None:
        if (status := self._run.status) is not None:
            cause = explain(self._run.text(), status)
            raise self._failure(f"died {when}: {cause.sentence}")

    def _failure(self, what: str, kind: type[ServerFailed] = ServerFailed) -> ServerFailed:
        sentence = f"{self._words} {what}; its log: {self.log}"
        return kind(sentence, telling_lines(self._run.text()), self._variants)

    def _refused(self, refusal: SystemFailed, detail: str) -> ServerFailed:
        replica = f" (replica {self.plan.replica})" if self.plan.replica else ""
        return ServerFailed(f"{refusal}{replica}", detail, self._variants)

    def release(self) -> None:
        """Tell the supervisor to stop everything, without waiting."""
        self._run.release()

    async def stop(self) -> None:
        """Stop, and wait until no process and no temporary file is left."""
        await self._run.stop()


def _processes(pids: Iterable[int]) -> Iterator[psutil.Process]:
    """The processes that still exist. A later process with the same id does not count."""
    for pid in pids:
        with suppress(psutil.Error):
            yield psutil.Process(pid)


def _is_stopped(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.status() == psutil.STATUS_STOPPED
    return False
