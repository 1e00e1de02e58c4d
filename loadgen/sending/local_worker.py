"""A worker of a fleet as a process on this machine."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from foundation.errors import SystemFailed
from foundation.processes.python_child import run_module
from foundation.progress import Progress
from loadgen.sending.block import BlockPlan
from loadgen.sending.origin import Origin
from loadgen.sending.worker_task import WorkerMessage, WorkerTask, decoded_message


class LocalWorker:
    """One `python -m loadgen.sending.worker`, which gets its orders on standard input.

    `core`: the one that it is kept on; None for any.
    """

    def __init__(self, plan: BlockPlan, part: Path, core: int | None) -> None:
        self.part = part
        self._plan, self._core = plan, core
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
        work = WorkerTask(self._plan, self.part.absolute()).pickled()
        self._process.stdin.write(len(work).to_bytes(8, "big") + work)
        assert self._process.stderr is not None
        # Read all the time. A worker whose complaints fill the pipe would wait for us, and we for
        # it.
        self._complaints = asyncio.create_task(self._process.stderr.read())
        self._pin()
        if not (await self._next_message()).ready:
            raise SystemFailed(f"load generator worker {self._plan.share.worker} did not start")

    async def begin(self, origin: Origin) -> None:
        """Has it send its share from this origin on."""
        await self.order(f"origin {origin.monotonic_ns} {origin.key_ns}")

    async def order(self, line: str) -> None:
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
            message = decoded_message(line)
            for _ in range(message.ended):
                progress.advance(1, f"worker {self._plan.share.worker}: {message.note}")
        await self._check()

    async def close(self) -> None:
        """Ends it at once where it still runs."""
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()

    async def _next_message(self) -> WorkerMessage:
        assert self._process is not None and self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            await self._check()
        return decoded_message(line) if line else WorkerMessage()

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
