"""A Progress that another process draws, so that no terminal can hold up a load."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from types import TracebackType

import msgspec
from rich.console import Console

from dyno.terminal.live.update import Advance, Log, Stage, Update, Watch
from foundation.printable import printable
from foundation.processes.python_child import run_module
from foundation.run.layout import RunDirectory
from foundation.secrets import masked

EVERY_S = 0.25
"""The least time between two updates of one stage."""
_MOST_UNSENT = 1 << 20  # bytes that wait for a terminal that takes nothing
_LAST_DRAWING_S = 5.0


class LiveProgress:
    """Sends each stage to a process that draws it. Use as a context manager.

    `advance` is called in the load's event loop: it adds up, and writes at most four times a
    second. The pipe never blocks. If the terminal takes nothing, updates wait here.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._process: subprocess.Popen[bytes] | None = None
        self._unsent = bytearray()
        self._done, self._note, self._sent_at = 0.0, "", 0.0

    def __enter__(self) -> LiveProgress:
        self._process = subprocess.Popen(
            run_module("dyno.terminal.live.screen"),
            stdin=subprocess.PIPE,
            stdout=self._console.file.fileno(),
            env={**os.environ, "PYTHONIOENCODING": self._console.encoding},
            preexec_fn=_without_interrupts,
        )
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process = self._process
        assert process is not None and process.stdin is not None
        deadline = time.monotonic() + _LAST_DRAWING_S
        while self._unsent and time.monotonic() < deadline:
            self._write()
            time.sleep(0.01)
        process.stdin.close()
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:  # the terminal takes nothing
            process.kill()
            process.wait()
        else:
            if process.returncode:  # it was ended before it showed the cursor again
                self._console.show_cursor()

    def stage(self, name: str, total: float | None, unit: str) -> None:
        """Begins a stage of `total` units, None if unknown."""
        self._flush()
        self._send(Stage(name=_safe(name), total=total, unit=unit))

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Adds finished units; `note` is shown under the bar."""
        self._done += amount
        self._note = note or self._note
        if time.monotonic() - self._sent_at >= EVERY_S:
            self._flush()

    def log(self, line: str) -> None:
        """Prints a line above the screen."""
        self._flush()
        if not self._send(Log(line=_safe(line))):
            self._console.print(line, markup=False, highlight=False)

    def watch(self, run: RunDirectory) -> None:
        """Shows what the journals of this run say, as they become whole."""
        self._send(Watch(run=str(run.path.absolute())))

    def _flush(self) -> None:
        """Sends what was added up since the last time."""
        if (self._done or self._note) and len(self._unsent) < _MOST_UNSENT:
            self._send(Advance(amount=self._done, note=_safe(self._note)))
            self._done, self._note = 0.0, ""
        self._sent_at = time.monotonic()

    def _send(self, update: Update) -> bool:
        """Writes an update as far as the pipe takes it; False if the process is gone."""
        self._unsent += msgspec.json.encode(update) + b"\n"
        return self._write()

    def _write(self) -> bool:
        assert self._process is not None and self._process.stdin is not None
        try:
            with suppress(BlockingIOError):
                while self._unsent:
                    del self._unsent[: os.write(self._process.stdin.fileno(), self._unsent)]
        except BrokenPipeError:
            self._unsent.clear()
            return False
        return True


def _safe(text: str) -> str:
    """The text without control characters, and without the keys that only this process knows."""
    return printable(masked(text))


def _without_interrupts() -> None:
    """Ctrl-C and Ctrl-\\ go to every process of the terminal; the screen ends when its run does."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
