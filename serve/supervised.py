"""A command under a `supervisor`: its log, its temporary folder, and the end of its processes."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TypeVar

from foundation.cores import on_processors
from foundation.files.scratch import scratch
from foundation.processes.python_child import run_module
from serve import supervisor

_EXTRA_GRACE_S = 15.0
"""How much longer than the supervisor's own grace period to wait for it."""

_Held = TypeVar("_Held")


class Supervised:
    """A command whose processes all end with this object, and with this process at the latest.

    `log`: the file that its output is added to. `processors`: those that it may use; None for all.
    """

    def __init__(self, log: Path, processors: frozenset[int] | None = None) -> None:
        self.log = log
        self._processors = processors
        self._held = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._begins = 0

    @property
    def pid(self) -> int | None:
        """Process id of the supervisor, the root of the process tree."""
        return self._process.pid if self._process else None

    @property
    def status(self) -> int | None:
        """Its exit status as a shell's; None while it runs."""
        return self._process.poll() if self._process is not None else None

    def hold(self, context: AbstractContextManager[_Held]) -> _Held:
        """Keeps something, such as a port, until the command has ended."""
        return self._held.enter_context(context)

    def launch(
        self,
        module: str,
        arguments: Sequence[str],
        environment: Callable[[Path], Mapping[str, str]],
        shown: Sequence[str] = (),
    ) -> None:
        """Starts a module in a temporary folder, which `environment` gets.

        `shown`: assignments of the environment that the log names before the command.
        """
        folder = self.hold(scratch())
        command = run_module(module, *arguments)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log, on_processors(self._processors):
            self._begins = log.tell()
            log.write(f"$ {shlex.join([*shown, *command])}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                [sys.executable, "-I", supervisor.__file__, str(folder), *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environment(folder)),
                cwd=folder,
                start_new_session=True,
            )

    def text(self) -> str:
        """What it has written to its log since it started."""
        with self.log.open("rb") as log:
            log.seek(self._begins)
            return log.read().decode(errors="replace")

    def family(self) -> list[int]:
        """Process ids of the supervisor and all its descendants."""
        return [self.pid, *supervisor.descendants(self.pid)] if self.pid is not None else []

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
