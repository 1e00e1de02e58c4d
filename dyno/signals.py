"""Signals that end a command as Ctrl-C does: cleanly, with exit code 130 and no process left behind."""

from __future__ import annotations

import signal

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_as_ctrl_c() -> None:
    """Have each of `ENDING` raise KeyboardInterrupt.

    SIGINT does so in the background of a script too, where the shell has it ignored.
    """
    for number in ENDING:
        if counts(number):
            signal.signal(number, interrupt)


def counts(number: int) -> bool:
    """False for a SIGHUP that is ignored, as under `nohup`: it stays so."""
    return number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN


def interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
