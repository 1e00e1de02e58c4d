"""Ends the work of a round when the time of `dyno improve` is over."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_MOST_S = 1e8
"""The longest time that the system's timer is set to, s: three years."""


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Raises KeyboardInterrupt in the block, as Ctrl-C does, once so many seconds are over.

    What is made or started ends at once. A block of a load is measured to its end, and is then the
    last one (`Stopping`). Only in the main thread.
    """

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    handler = signal.signal(signal.SIGALRM, interrupt)
    timer = signal.setitimer(signal.ITIMER_REAL, min(max(seconds, 1e-6), _MOST_S))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)
