"""Runs a heavy stage in a process of its own, whose end frees torch's memory before the load."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn, TypeVar

from foundation.errors import DynoError, SystemFailed, refused_by_system
from foundation.processes.end_with_parent import end_with
from foundation.processes.python_child import spawned_safely
from foundation.progress import Progress

T = TypeVar("T")
_LAST_LINES = 20


class _PipeProgress:
    """A Progress that sends its calls to the parent process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def stage(self, name: str, total: float | None, unit: str) -> None:
        self._pipe.send(("stage", (name, total, unit)))

    def advance(self, amount: float = 1, note: str = "") -> None:
        self._pipe.send(("advance", (amount, note)))

    def log(self, line: str) -> None:
        self._pipe.send(("log", (line,)))


def isolated(function: Callable[..., T], *args: object, progress: Progress, log: Path) -> T:
    """Runs `function(*args, progress=...)` in a fresh process, and returns its result.

    Function, arguments and result are pickled. The file `log` gets what libraries print. Raises
    the function's error, and SystemFailed with the last lines of the log if the process dies
    without a result.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    ended = False
    child = context.Process(target=_run, args=(theirs, log, function, args), daemon=True)
    with spawned_safely():
        child.start()
    theirs.close()
    try:
        while True:
            kind, value = ours.recv()
            ended = kind in ("result", "error")
            if kind == "result":
                result: T = value
                return result
            if kind == "error":
                raise value
            getattr(progress, kind)(*value)
    except EOFError:
        child.join()
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        raise SystemFailed(
            f"{function.__name__}: its process ended without a result{_ending(child.exitcode)}",
            "\n".join(lines[-_LAST_LINES:]),
        ) from None
    finally:
        if not ended:
            child.terminate()
        child.join(timeout=5)
        if child.is_alive():
            child.kill()
            child.join()


def _ending(code: int | None) -> str:
    """How the process ended, as the end of a sentence."""
    if code == -signal.SIGKILL:
        return ": it was killed, most likely because memory ran out"
    return f" (exit code {code})"


def _run(
    pipe: Connection, log: Path, function: Callable[..., object], args: tuple[object, ...]
) -> NoReturn:
    """Runs the function in the new process, sends its result or error, and ends the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    if (parent := multiprocessing.parent_process()) is not None and parent.pid is not None:
        end_with(parent.pid)
    try:
        with log.open("a", encoding="utf-8") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        pipe.send(("result", function(*args, progress=_PipeProgress(pipe))))
    except DynoError as error:
        pipe.send(("error", error))
    except Exception as error:
        known = refused_by_system(error) if isinstance(error, OSError | RuntimeError) else None
        message = f"{function.__name__}: {type(error).__name__}: {error}"
        pipe.send(("error", known or SystemFailed(message, traceback.format_exc())))
    # Nobody waits for the interpreter to take torch apart, which lasts a second or two.
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)
