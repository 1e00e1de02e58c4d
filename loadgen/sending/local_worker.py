"""A worker of a fleet as a process on this machine."""

from __future__ import annotations

import asyncio
import os
import pickle
from pathlib import Path

import msgspec

from foundation.errors import SystemFailed
from foundation.processes.python_child import run_module
from foundation.progress import Progress
from loadgen.sending.block import BlockPlan


class WorkerMessage(msgspec.Struct, omit_defaults=True):
    """A line from a worker.

    `ready`: it can start. `ended`: requests that ended since the last line, with a `note` on them.
    `error`: why it ends.
    """

    ready: bool = False
    ended: int = 0
    note: str = ""
    error: str = ""


class LocalWorker:
    """One `python -m loadgen.sending.worker`, which gets its orders on standard input.

    `core`: the one that it is kept on; None for any.
    """

    def __init__(self, plan: BlockPlan, part: Path, core: int | None) -> None:
        self._plan, self._part, self._core = plan, part, core
        self._process: asyncio.subprocess.Process | None = None
        self._complaints: asyncio.Task[bytes] | None = None

    async def start(self, folder: str) -> None:
        """Starts the process in `folder` and waits until it has a connection."""
        self._process = await asyncio.create_subprocess_exec(
            *run_module("loadgen.sending.worker"),
            cwd=folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is ours to pass on
        )
        assert self._process.stdin is not None
        work = pickle.dumps((self._plan, self._part.absolute()))
        self._process.stdin.write(len(work).to_bytes(8, "big") + work)
        assert self._process.stderr is not None
        # Read all the time. A worker whose complaints fill the pipe would wait for us, and we for
        # it.
        self._complaints = asyncio.create_task(self._process.stderr.read())
        self._pin()
        if not (await self._next_message()).ready:
            raise SystemFailed(f"load generator worker {self._plan.share.worker} did not start")

    def order(self, line: str) -> None:
        """Writes a line of orders to it; nothing where it is gone."""
        if (
            self._process is not None
            and self._process.stdin is not None
            and not self._process.stdin.is_closing()
        ):
            self._process.stdin.write(line.encode() + b"\n")

    async def follow(self, progress: Progress) -> None:
        """Passes on the worker's progress until it has ended."""
        assert self._process is not None and self._process.stdout is not None
        while line := await self._process.stdout.readline():
            message = _decoded(line)
            for _ in range(message.ended):
                progress.advance(1, f"worker {self._plan.share.worker}: {message.note}")
        await self._check()

    async def wait(self) -> None:
        """Waits for its end."""
        if self._process is not None:
            await self._process.wait()

    def kill(self) -> None:
        """Ends it at once."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _next_message(self) -> WorkerMessage:
        assert self._process is not None and self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            await self._check()
        return _decoded(line) if line else WorkerMessage()

    async def _check(self) -> None:
        assert self._process is not None and self._complaints is not None
        complaints = (await self._complaints).decode("utf-8", "replace")
        if code := await self._process.wait():
            complaint = self._plan.endpoint.redacted(complaints)[-2000:]
            raise SystemFailed(
                f"load generator worker {self._plan.share.worker} ended with {code}", complaint
            )

    def _pin(self) -> None:
        if self._process is not None and self._core is not None:
            os.sched_setaffinity(self._process.pid, {self._core})


def _decoded(line: bytes) -> WorkerMessage:
    """A worker's message. Raises SystemFailed where it reports an error."""
    message = msgspec.json.decode(line, type=WorkerMessage)
    if message.error:
        raise SystemFailed(message.error)
    return message
