"""A child process that ends with its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
# Loaded here: between fork and exec, where other threads may hold the loader's lock, is too late.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, of whatever. `parent`: the process that started this one.

    As `preexec_fn=partial(end_with, os.getpid())` it holds for another program too. The kernel goes by the thread that
    started this process, which must therefore be one that lasts. Linux only.
    """
    if _LIBC is None:
        return
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before it could be watched
        os._exit(1)
