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
from serve.vllm import sleep
from serve.vllm.arguments import environment, template_option
from serve.vllm.failures import ServerFailed, TakenOver, explain, last_words, telling_lines

_POLL_S = 0.2
_DYING_POLLS = 50
# A process that does not run for so long was stopped, not swapped out.
_STOPPED_S = 5.0
_LOOK_S = 1.0
_HEALTH_S = 5.0
# Beyond the warden's own grace.
_LATE_S = 15.0
PATIENCE_S = 60.0
"""How long a server under load may take to say that it is healthy."""
_UNDER_LOAD = "while it was under load"


class Server:
    """A vLLM server behind a warden (see `warden`), which stops all its processes whatever becomes of this one.

    It works in a temporary folder of its own, and answers on a port that nobody but its processes may listen on.
    `patience`: seconds without a sign of life after which it hangs.
    """

    def __init__(
        self, plan: ServerPlan, config: ServeConfig, logs: Path, patience: float = PATIENCE_S
    ) -> None:
        self.plan = plan
        self.log = logs / f"{plan.name}.log"
        self._config = config
        self._patience = patience
        self._key = secrets.token_urlsafe(24)
        self._held = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._port: HeldPort | None = None
        self._log_begins = 0

    @property
    def endpoints(self) -> list[Endpoint]:
        """One for each variant it serves."""
        url = f"http://{HOST}:{self._port.number if self._port else 0}/v1"
        return [Endpoint(v.name, url, v.name, self._key) for v in self.plan.variants]

    @property
    def pid(self) -> int | None:
        """The warden's, the root of the server's process tree."""
        return self._process.pid if self._process else None

    async def start(self) -> float:
        """Start and wait until every variant has generated a token; returns the seconds it took. Raises ServerFailed."""
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
        )
        command = run_module("vllm.entrypoints.openai.api_server", *arguments)
        with self.log.open("ab") as log:
            self._log_begins = log.tell()
            log.write(f"$ {shlex.join(command)}\n".encode())
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
        """Temporary files and sockets lie in the server's folder; what torch compiled is kept, as it is without that."""
        ours = {"TMPDIR": str(folder), "VLLM_RPC_BASE_PATH": str(folder)}
        asleep = sleep.ENVIRONMENT if sleep.OPTION in self.plan.arguments else {}
        given = environment(self._key) | ours | asleep
        # Not as the first variable: vLLM sets it again, and a process finds its title by where the first one lies.
        given.setdefault(
            "TORCHINDUCTOR_CACHE_DIR", str(cache_folder().absolute() / "torchinductor")
        )
        return given

    async def _until_ready(self) -> None:
        """Nothing is sent before the port is known to be ours, and no key to anybody else."""
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
                    for _ in range(
                        _DYING_POLLS
                    ):  # an engine that died of the request takes the server with it, in seconds
                        self._raise_if_dead("at its first token")
                        await asyncio.sleep(_POLL_S)
                    detail = f"{refusal.detail}\n{telling_lines(self._text())}"
                    raise ServerFailed(str(refusal), detail, self._variants) from None

    @property
    def _variants(self) -> list[str]:
        return [variant.name for variant in self.plan.variants]

    def check_port(self) -> None:
        """Raises ServerFailed where this server does not listen on its port, or another process does too."""
        self._raise_if_dead(_UNDER_LOAD)
        if not self._who_listens().ours:
            raise self._failure("does not listen on its port any more")

    def _who_listens(self) -> Listeners:
        """Raises ServerFailed where a process that is not of this server listens on its port."""
        assert self._port is not None
        seen = listeners(self._port.number, self._family())
        if seen.strangers:
            raise self._failure(
                f"does not have its port {self._port.number} for itself: {', '.join(seen.strangers)} listens there; "
                "end that, or give serve.ports a range of free ones",
                TakenOver,
            )
        return seen

    def _family(self) -> list[int]:
        """The process ids of the warden and of everything that came from it."""
        return [self.pid, *supervisor.descendants(self.pid)] if self.pid is not None else []

    async def watch(self) -> None:
        """Return never; raise ServerFailed when the server is gone, or gives no sign of life."""
        family, runs_at = list(_processes(self._family())), time.monotonic()
        looks_at = runs_at
        over = asyncio.Event()
        health = asyncio.ensure_future(self._until_silent(over))
        try:
            while not health.done():
                self._raise_if_dead(_UNDER_LOAD)
                if (
                    time.monotonic() >= looks_at
                ):  # seldom, since it shares the event loop with the load
                    looks_at += _LOOK_S
                    if (stopped := next(filter(_is_stopped, family), None)) is None:
                        runs_at = time.monotonic()
                    elif time.monotonic() - runs_at > min(_STOPPED_S, self._patience):
                        raise self._failure(
                            f"hangs: its process {stopped.pid} was stopped (SIGSTOP)"
                        )
                await asyncio.sleep(_POLL_S)
            await health
        finally:
            over.set()  # aiohttp takes a cancellation for its own timeout where both come at once
            health.cancel()

    async def _until_silent(self, over: asyncio.Event) -> None:
        """Raises ServerFailed when the server does not say that it is healthy, and does not refuse either."""
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
        """Raises ServerFailed where the server does not generate a token in time."""
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
        """Tell the warden to stop everything; at once, nothing is waited for."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    async def stop(self) -> None:
        """Stop, and wait until no process is left and no temporary file."""
        self.release()
        if self._process is not None:
            await asyncio.to_thread(self._end)
        await asyncio.to_thread(self._held.close)

    def _end(self) -> None:
        """Wait for the warden, in good time; what it leaves goes with the folder."""
        assert self._process is not None
        try:
            self._process.wait(supervisor.GRACE_S + _LATE_S)
        except subprocess.TimeoutExpired:  # somebody stopped it
            self._process.kill()
            self._process.wait()


def _processes(pids: Iterable[int]) -> Iterator[psutil.Process]:
    """Those that are still there; a process is not taken for a later one of the same id."""
    for pid in pids:
        with suppress(psutil.Error):
            yield psutil.Process(pid)


def _is_stopped(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.status() == psutil.STATUS_STOPPED
    return False
