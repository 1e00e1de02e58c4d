"""Ends work in the event loop early; on Ctrl-C within a block, after the requests in flight."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from dyno.terminal.signals import ends_command

Actions = Mapping[signal.Signals, Callable[[], object]]


@contextmanager
def handled(actions: Actions) -> Iterator[None]:
    """Lets the running event loop call `actions` on their signals, until the block ends."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in actions if ends_command(number)}
    for number in before:
        loop.add_signal_handler(number, actions[number])
    try:
        yield
    finally:
        for number, action in before.items():
            # This restores the system's action, which silently ends the process; so restore ours.
            loop.remove_signal_handler(number)
            signal.signal(number, action)


class Stopping:
    """The actions of signals while the current task prepares and runs a load.

    The first Ctrl-C within a block sets `drain`. SIGALRM within a block makes it the last one: the
    time of `dyno improve` is over. Any other signal cancels the task. `log` prints a line.
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.drain = asyncio.Event()
        self.is_over = False
        self.actions: Actions = {
            signal.SIGINT: self._on_ctrl_c,
            signal.SIGALRM: self._on_time_over,
            signal.SIGTERM: task.cancel,
            signal.SIGHUP: task.cancel,
        }
        self._cancel, self._log = task.cancel, log
        self._in_block = False

    @contextmanager
    def in_block(self) -> Iterator[None]:
        """Requests are in flight during the block."""
        self._in_block = True
        try:
            yield
        finally:
            self._in_block = False

    def _on_ctrl_c(self) -> None:
        if self._in_block and not self.drain.is_set():
            self._log("stopping: waiting for the requests under way (Ctrl-C again to stop at once)")
            self.drain.set()
        else:
            self._cancel()

    def _on_time_over(self) -> None:
        if self._in_block:
            self._log("the time is over: the block under way is the last")
            self.is_over = True
        else:
            self._cancel()
