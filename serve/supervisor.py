"""Runs a command and kills its whole process tree when the parent exits.

`python -I supervisor.py FOLDER COMMAND...`

Two processes watch. The first starts the second, and the second starts the command. Each inherits
the descendants that the other leaves. The second one's standard input is a pipe that the parent
holds open. The pipe closes when the parent stops the server, exits, or dies by any signal. Then,
or when the command or the first process ends, the second kills everything that came from the
command. It exits with the command's status. If the second is gone, the first does the same. If
both die at once, the kernel kills the command. At the end the supervisor removes FOLDER, which
belongs to the command. It needs the standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from foundation.files.scratch import sweep, sweep_dead
from foundation.processes.end_with_parent import end_with
from foundation.processes.resource_tracker import TRACKER_PATIENCE_S, is_resource_tracker

GRACE_S = 5.0
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
KILLED = 128
"""As in a shell, a command that a signal killed has this status plus the signal's number."""

_PR_SET_CHILD_SUBREAPER = 36
# Shared memory, and how Python, torch and vLLM begin its names.
_SHARED, _SHARED_NAMES = Path("/dev/shm"), ("psm_", "torch_", "vllm")
_STARTED_S = time.time()


def main(folder: Path, command: list[str]) -> int:
    """The first process: start the second, pass signals on, and return the command's status."""
    first, first_ended = os.getpid(), os.pidfd_open(os.getpid())
    adopt_orphans()
    second = os.fork()
    if second == 0:
        return guard(command, folder, first, first_ended)

    def pass_on(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(second, signal.SIGTERM)

    for number in STOPPING:
        signal.signal(number, pass_on)
    status = os.waitstatus_to_exitcode(os.waitpid(second, 0)[1])
    clear_away(folder)
    return exit_status(status)


def guard(command: list[str], folder: Path, first: int, first_ended: int) -> int:
    """The second process: run the command until it, the parent or the first process ends."""
    for number in STOPPING:
        signal.signal(number, close_pipe)
    adopt_orphans()
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=partial(end_with, os.getpid()),
    )
    ended = os.pidfd_open(child.pid)
    select.select([sys.stdin, ended, first_ended], [], [])
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
        os.killpg(child.pid, signal.SIGCONT)  # a stopped process can't exit
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_S)
    kill_descendants()
    if os.getppid() != first:
        clear_away(folder)
    return exit_status(child.wait())


def exit_status(code: int) -> int:
    """A `Popen.returncode` as a shell's exit status."""
    return code if code >= 0 else KILLED - code


def close_pipe(*_: object) -> None:
    """Treat a signal to the supervisor as the end of its parent."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    # Replaced, not closed: the next file to open would get the number.
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent dies: none can escape."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def clear_away(folder: Path) -> None:
    """Kill what the other process left and remove the folder.

    Removes the folder around it too if its owner is dead.
    """
    kill_descendants()
    sweep(folder)
    sweep_dead(folder.parent.parent)


def kill_descendants() -> None:
    """Send SIGKILL to children until none is left; the orphans of each become children in turn.

    Resource trackers get time to remove shared memory. The rest of it is removed here.
    """
    shared = shared_memory(descendants(os.getpid()))
    deadline = time.monotonic() + TRACKER_PATIENCE_S
    while children := children_of(os.getpid()):
        for pid in children:
            if time.monotonic() > deadline or not is_resource_tracker(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)
    for file in shared:
        file.unlink(missing_ok=True)


def children_of(pid: int) -> list[int]:
    """Process ids of the children of all threads of a process; none of one that is gone."""
    pids: list[int] = []
    # It may end before its threads are listed, and a thread before its children are.
    with contextlib.suppress(OSError):
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                pids += map(int, file.read_text(encoding="utf-8", errors="replace").split())
    return pids


def descendants(pid: int) -> Iterator[int]:
    """Process ids of children, their children, and so on."""
    for child in children_of(pid):
        yield child
        yield from descendants(child)


def shared_memory(pids: Iterator[int]) -> set[Path]:
    """Shared memory that the processes have mapped and that is younger than this process."""
    files: set[Path] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
            lines = [line for line in maps.splitlines() if f" {_SHARED}/" in line]
            files |= {Path(line.split(maxsplit=5)[5]) for line in lines}
    return {
        file
        for file in files
        if file.name.startswith(_SHARED_NAMES) and _changed_s(file) >= _STARTED_S
    }


def _changed_s(file: Path) -> float:
    with contextlib.suppress(OSError):
        return file.stat().st_ctime
    return 0.0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
