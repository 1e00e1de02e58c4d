"""Ends a command on a signal as on Ctrl-C: exit code 130, and no process left behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from foundation.errors import Exit

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_as_ctrl_c() -> None:
    """Makes each signal of `ENDING` raise KeyboardInterrupt.

    SIGINT does so in the background of a script too, although the shell ignores it there.
    """
    for number in ENDING:
        if ends_command(number):
            # For SIGINT, asyncio replaces this handler by one that cancels the task.
            signal.signal(number, signal.default_int_handler)


def ends_command(number: int) -> bool:
    """Whether the signal ends a command: all do but a SIGHUP that is ignored, as under `nohup`."""
    return number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN


@contextmanager
def ending_now() -> Iterator[None]:
    """Ends the process at once on a signal of `ENDING`; use it for work that needs no clean-up.

    Python would first wait for a library's threads to finish their downloads.
    """

    def end(number: int, frame: object) -> None:
        if sys.stdout.isatty():
            sys.stdout.write("\x1b[?25h\n")  # the cursor, which a live bar hides
            sys.stdout.flush()
        os._exit(Exit.INTERRUPTED)

    before = {number: signal.signal(number, end) for number in ENDING if ends_command(number)}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)
