"""How work in the event loop ends early. Within a block of a load, Ctrl-C lets the requests under way finish first."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from dyno.terminal.signals import ends_command

Actions = Mapping[signal.Signals, Callable[[], object]]


@contextmanager
def handled(actions: Actions) -> Iterator[None]:
    """Have the running event loop call these; afterwards each signal does what it did before."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in actions if ends_command(number)}
    for number in before:
        loop.add_signal_handler(number, actions[number])
    try:
        yield
    finally:
        for number, action in before.items():
            loop.remove_signal_handler(
                number
            )  # leaves the system's own action: to end the process without a word
            signal.signal(number, action)


class Stopping:
    """What signals do while a load is prepared and run in the current task.

    Ctrl-C within a block sets `drain`; anywhere else, and the second time, it cancels the task, as SIGTERM and SIGHUP do.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.drain = asyncio.Event()
        self.actions: Actions = {
            signal.SIGINT: self._on_ctrl_c,
            signal.SIGTERM: task.cancel,
            signal.SIGHUP: task.cancel,
        }
        self._cancel, self._say = task.cancel, say
        self._in_block = False

    @contextmanager
    def in_block(self) -> Iterator[None]:
        """Requests are under way."""
        self._in_block = True
        try:
            yield
        finally:
            self._in_block = False

    def _on_ctrl_c(self) -> None:
        if self._in_block and not self.drain.is_set():
            self._say("stopping: waiting for the requests under way (Ctrl-C again to stop at once)")
            self.drain.set()
        else:
            self._cancel()
