"""Signals that end a command as Ctrl-C does: cleanly, with exit code 130 and no process left behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from foundation.errors import Exit

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_as_ctrl_c() -> None:
    """Have each of `ENDING` raise KeyboardInterrupt.

    SIGINT does so in the background of a script too, where the shell has it ignored.
    """
    for number in ENDING:
        if counts(number):
            signal.signal(
                number, signal.default_int_handler
            )  # for SIGINT, asyncio takes its place and cancels the task


def counts(number: int) -> bool:
    """False for a SIGHUP that is ignored, as under `nohup`: it stays so."""
    return number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN


@contextmanager
def ending_now() -> Iterator[None]:
    """Within it, such a signal ends the process then and there: the threads of a library would first fetch all that they began.

    For what leaves nothing to clean up.
    """

    def end(number: int, frame: object) -> None:
        if sys.stdout.isatty():
            sys.stdout.write("\x1b[?25h\n")  # the cursor, which a live bar hides
            sys.stdout.flush()
        os._exit(Exit.INTERRUPTED)

    before = {number: signal.signal(number, end) for number in ENDING if counts(number)}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)
