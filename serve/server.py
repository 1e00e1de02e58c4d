"""One vLLM server: its processes from start to stop."""

from __future__ import annotations

import asyncio
import secrets
import shlex
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from foundation.endpoint import Endpoint
from foundation.errors import SystemFailed
from serve import sleep, warden
from serve.arguments import environment
from serve.config import ServeConfig
from serve.failure import explain, last_lines
from serve.plan import ServerPlan
from serve.ports import HOST, held_port
from serve.readiness import generate_token, is_healthy, session

_POLL_S = 0.2
_DYING_POLLS = 50


class Server:
    """A vLLM server behind a warden (see `warden`), which stops all its processes whatever becomes of this one."""

    def __init__(self, plan: ServerPlan, config: ServeConfig, logs: Path) -> None:
        self.plan = plan
        self.log = logs / f"{plan.name}.log"
        self._config = config
        self._key = secrets.token_urlsafe(24)
        self._held = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._log_begins = 0
        self._base_url = ""

    @property
    def endpoints(self) -> list[Endpoint]:
        """One for each variant it serves."""
        return [Endpoint(v.name, self._base_url, v.name, self._key) for v in self.plan.variants]

    @property
    def pid(self) -> int | None:
        """The warden's, the root of the server's process tree."""
        return self._process.pid if self._process else None

    async def start(self) -> float:
        """Start and wait until every variant has generated a token; returns the seconds it took. Raises SystemFailed."""
        began = time.monotonic()
        self._launch()
        try:
            async with asyncio.timeout(self._config.start_timeout):
                await self._until_ready()
        except TimeoutError:
            raise self._failure(f"not ready after {self._config.start_timeout:g} s (serve.start_timeout)") from None
        return time.monotonic() - began

    def _launch(self) -> None:
        port = self._held.enter_context(held_port(self._config.ports))
        self._base_url = f"http://{HOST}:{port}/v1"
        vllm = [sys.executable, "-P", "-m", "vllm.entrypoints.openai.api_server"]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [*vllm, f"--host={HOST}", f"--port={port}", *self._template(), *self.plan.arguments]
        with self.log.open("ab") as log:
            self._log_begins = log.tell()
            log.write(f"$ {shlex.join(command)}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                [sys.executable, "-I", warden.__file__, *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(self._key) | (sleep.ENVIRONMENT if sleep.OPTION in self.plan.arguments else {}),
                start_new_session=True,
            )

    def _template(self) -> list[str]:
        """The option that names the chat template's file, which is written beside the log."""
        if self.plan.template is None:
            return []
        file = self.log.with_suffix(".chat_template.jinja").absolute()
        file.write_text(self.plan.template, encoding="utf-8")
        return [f"--chat-template={file}"]

    async def _until_ready(self) -> None:
        async with session(self.endpoints[0]) as web:
            while not await is_healthy(web, self.endpoints[0]):
                self._raise_if_dead("while it started")
                await asyncio.sleep(_POLL_S)
            for endpoint, variant in zip(self.endpoints, self.plan.variants, strict=True):
                try:
                    await generate_token(web, endpoint, variant.api)
                except SystemFailed as refusal:
                    for _ in range(_DYING_POLLS):  # an engine that died of the request takes the server with it, in seconds
                        self._raise_if_dead("at its first token")
                        await asyncio.sleep(_POLL_S)
                    raise SystemFailed(str(refusal), f"{refusal.detail}\n{last_lines(self._text())}") from None

    async def watch(self) -> None:
        """Return never; raise SystemFailed when the server is gone."""
        while True:
            self._raise_if_dead("while it was under load")
            await asyncio.sleep(_POLL_S)

    def _raise_if_dead(self, when: str) -> None:
        if self._process is not None and (status := self._process.poll()) is not None:
            cause = explain(self._text(), status)
            raise self._failure(f"died {when}: {cause.sentence}")

    def _failure(self, what: str) -> SystemFailed:
        names = ", ".join(v.name for v in self.plan.variants)
        return SystemFailed(f"the server of {names} {what}; its log: {self.log}", last_lines(self._text()))

    def _text(self) -> str:
        with self.log.open("rb") as log:
            log.seek(self._log_begins)
            return log.read().decode(errors="replace")

    def release(self) -> None:
        """Tell the warden to stop everything; at once, nothing is waited for."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    async def stop(self) -> None:
        """Stop, and wait until no process is left."""
        self.release()
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)
        self._held.close()
