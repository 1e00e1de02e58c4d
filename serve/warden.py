"""A process that runs one command and outlives it only to clean up: `python warden.py COMMAND...`, standard library only.

Its standard input is a pipe that its parent holds open. When the pipe closes (the parent stops the server, ends, or is
killed by whatever signal) or the command ends, every process that came from the command is stopped, and the warden exits
with the command's status.
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
from pathlib import Path

GRACE_S = 5.0
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_CHILD_SUBREAPER = 36


def main(command: list[str]) -> int:
    for number in STOPPING:
        signal.signal(number, close_pipe)
    adopt_orphans()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    ended = os.pidfd_open(child.pid)
    with contextlib.suppress(OSError, ValueError):  # `close_pipe` came between
        select.select([sys.stdin, ended], [], [])
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_S)
    kill_descendants()
    return child.wait()


def close_pipe(*_: object) -> None:
    """A signal to the warden is the same as the end of its parent."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    os.close(sys.stdin.fileno())


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent dies, so that none can slip away."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def kill_descendants() -> None:
    """SIGKILL children until there are none; the orphans of each become children in turn."""
    while children := Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split():
        for pid in map(int, children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
