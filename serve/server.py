"""One vLLM server: its processes from start to stop."""

from __future__ import annotations

import asyncio
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

from foundation.cores import on_processors
from foundation.errors import SystemFailed
from foundation.files.cache_folder import cache_folder
from foundation.files.scratch import scratch
from foundation.http.endpoint import Endpoint
from foundation.processes.python_child import run_module
from serve import supervisor
from serve.config import ServeConfig
from serve.plan import ServerPlan
from serve.ports import HOST, HeldPort, Listeners, held_port, listeners
from serve.readiness import generate_token, is_healthy, session
from serve.vllm import engine_record, sleep
from serve.vllm.arguments import environment, server_module, template_option
from serve.vllm.failures import ServerFailed, TakenOver, explain, last_words, telling_lines

_POLL_S = 0.2
_DYING_POLLS = 50
_STOPPED_S = 5.0
"""A process in state "stopped" for so long did not just pause: somebody stopped it."""
_CHECK_STOPPED_S = 1.0
_HEALTH_S = 5.0
_EXTRA_GRACE_S = 15.0
"""How much longer than the supervisor's own grace period to wait for it."""
PATIENCE_S = 60.0
"""How long a server under load may take to answer `/health`."""
_UNDER_LOAD = "while it was under load"


class VllmServer:
    """A vLLM server under a `supervisor`, which stops all its processes whatever happens to ours.

    It works in its own temporary folder, and only its processes may listen on its port.
    `patience`: seconds without a sign of life after which it hangs. `record`: the file of its
    engine record; None writes none.
    `processors`: those that its processes may use; None for all.
    """

    def __init__(
        self,
        plan: ServerPlan,
        config: ServeConfig,
        logs: Path,
        patience: float = PATIENCE_S,
        record: Path | None = None,
        processors: frozenset[int] | None = None,
    ) -> None:
        self.plan = plan
        self.log = logs / f"{plan.name}.log"
        self._config = config
        self._patience = patience
        self._record = record
        self._processors = processors
        self._key = secrets.token_urlsafe(24)
        self._held = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._port: HeldPort | None = None
        self._log_begins = 0

    @property
    def endpoints(self) -> list[Endpoint]:
        """One endpoint for each variant."""
        url = f"http://{HOST}:{self._port.number if self._port else 0}/v1"
        return [Endpoint(v.name, url, v.name, self._key) for v in self.plan.variants]

    @property
    def pid(self) -> int | None:
        """Process id of the supervisor, the root of the server's process tree."""
        return self._process.pid if self._process else None

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
            failure.detail = failure.detail or last_words(self._text())
            raise failure from None
        return time.monotonic() - began

    def _launch(self) -> None:
        self._port = self._held.enter_context(held_port(self._config.ports))
        self._folder = self._held.enter_context(scratch())
        self.log.parent.mkdir(parents=True, exist_ok=True)
        template = template_option(self.plan.template, self.log.with_suffix(".chat_template.jinja"))
        arguments = (
            f"--host={HOST}",
            f"--port={self._port.number}",
            *template,
            *self.plan.arguments,
            *((engine_record.OPTION,) if self._record is not None else ()),
        )
        command = run_module(server_module(), *arguments)
        with self.log.open("ab") as log, on_processors(self._processors):
            self._log_begins = log.tell()
            assignments = [f"{name}={value}" for name, value in self.plan.variables.items()]
            log.write(f"$ {shlex.join([*assignments, *command])}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                [sys.executable, "-I", supervisor.__file__, str(self._folder), *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(self._folder),
                cwd=self._folder,
                start_new_session=True,
            )

    def _environment(self, folder: Path) -> dict[str, str]:
        """Puts temporary files into the server's folder, torch's compiled code into the cache."""
        ours = {"TMPDIR": str(folder), "VLLM_RPC_BASE_PATH": str(folder)}
        asleep = sleep.ENVIRONMENT if sleep.OPTION in self.plan.arguments else {}
        variables = environment(self._key) | dict(self.plan.variables) | ours | asleep
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
                    detail = f"{refusal.detail}\n{telling_lines(self._text())}"
                    raise ServerFailed(str(refusal), detail, self._variants) from None

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
        listening = listeners(self._port.number, self._family())
        if listening.strangers:
            raise self._failure(
                f"does not have its port {self._port.number} for itself: "
                f"{', '.join(listening.strangers)} listens there; "
                "end that, or give serve.ports a range of free ones",
                TakenOver,
            )
        return listening

    def _family(self) -> list[int]:
        """Process ids of the supervisor and all its descendants."""
        return [self.pid, *supervisor.descendants(self.pid)] if self.pid is not None else []

    async def watch(self) -> None:
        """Never return; raise ServerFailed if the server is gone or gives no sign of life."""
        family, last_running = list(_processes(self._family())), time.monotonic()
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
                raise ServerFailed(str(refusal), refusal.detail, self._variants) from None

    def _raise_if_dead(self, when: str) -> None:
        if self._process is not None and (status := self._process.poll()) is not None:
            cause = explain(self._text(), status)
            raise self._failure(f"died {when}: {cause.sentence}")

    def _failure(self, what: str, kind: type[ServerFailed] = ServerFailed) -> ServerFailed:
        sentence = f"the server of {', '.join(self._variants)} {what}; its log: {self.log}"
        return kind(sentence, telling_lines(self._text()), self._variants)

    def _text(self) -> str:
        with self.log.open("rb") as log:
            log.seek(self._log_begins)
            return log.read().decode(errors="replace")

    def release(self) -> None:
        """Tell the supervisor to stop everything, without waiting."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    async def stop(self) -> None:
        """Stop, and wait until no process and no temporary file is left."""
        self.release()
        if self._process is not None:
            await asyncio.to_thread(self._end)
        await asyncio.to_thread(self._held.close)

    def _end(self) -> None:
        """Wait for the supervisor, within a limit; processes it leaves go with the folder."""
        assert self._process is not None
        try:
            self._process.wait(supervisor.GRACE_S + _EXTRA_GRACE_S)
        except subprocess.TimeoutExpired:  # somebody stopped it
            self._process.kill()
            self._process.wait()


def _processes(pids: Iterable[int]) -> Iterator[psutil.Process]:
    """The processes that still exist. A later process with the same id does not count."""
    for pid in pids:
        with suppress(psutil.Error):
            yield psutil.Process(pid)


def _is_stopped(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.status() == psutil.STATUS_STOPPED
    return False
