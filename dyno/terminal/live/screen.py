"""`python -m dyno.terminal.live.screen`: draws a run's screen on standard output.

It reads updates from standard input, one JSON line each, until that ends. It runs at the lowest
priority: beside a busy server it gets at most about 1.5 % of a core.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.live import Live

from dyno.terminal import streams
from dyno.terminal.live.update import Advance, Log, Stage, Update, Watch
from dyno.terminal.live.view import Look, StageView, View
from dyno.terminal.progress import SafeConsole
from foundation.run.layout import RunDirectory

if TYPE_CHECKING:
    from dyno.terminal.live.looks import RunLooks

REFRESH_S = 0.5
LOOK_EVERY_S = 2.0
IDLE_PER_LOOK = 20.0
"""After a look so many times its CPU time goes by before the next one."""
_LOWEST = 19
_decoder = msgspec.json.Decoder(Update)


def main() -> None:
    """Draws until standard input ends, and leaves the terminal as it was."""
    os.nice(_LOWEST)
    streams.make_safe()
    console, view = SafeConsole(), View()
    watching: Watching | None = None
    with Live(
        console=console,
        get_renderable=lambda: view.drawn(console.width, time.monotonic()),
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
        transient=True,
    ) as live:
        for updates in received(sys.stdin.fileno(), REFRESH_S):
            for update in updates:
                if isinstance(update, Log):
                    live.console.print(update.line, markup=False, highlight=False)
                elif isinstance(update, Watch):
                    watching = Watching(RunDirectory(Path(update.run)))
                else:
                    apply(view, update, time.monotonic())
            if watching is not None:
                watching.look(view, time.monotonic())
            live.refresh()
    sys.stdout.flush()
    os._exit(0)  # a look under way is not waited for; its folder is among the run's own


def received(source: int, every_s: float) -> Iterator[list[Update]]:
    """The updates from a descriptor, collected for `every_s` seconds at a time, until it ends."""
    unread, is_open = b"", True
    while is_open:
        due = time.monotonic() + every_s
        while is_open and (left := due - time.monotonic()) > 0:
            if select.select([source], [], [], left)[0]:
                more = os.read(source, 1 << 16)
                unread, is_open = unread + more, bool(more)
        *lines, unread = unread.split(b"\n")
        yield [_decoder.decode(line) for line in lines]


def apply(view: View, update: Stage | Advance, now_s: float) -> None:
    """Shows what an update says."""
    if isinstance(update, Stage):
        view.stage = StageView(update.name, update.total, update.unit, now_s)
    else:
        view.stage.done += update.amount
        view.stage.note = update.note or view.stage.note


class Watching:
    """Looks at a run now and then, in a thread beside the drawing."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._looks: RunLooks | None = None
        self._pool = ThreadPoolExecutor(1)
        self._due_s = 0.0
        self._looking: Future[tuple[Look | None, float]] | None = None

    def look(self, view: View, now_s: float) -> None:
        """Shows a look that is done, and begins another one if it is due."""
        if self._looking is not None:
            if not self._looking.done():
                return
            spent_s = 0.0
            if error := self._looking.exception():
                view.trouble = f"no look at the journals: {type(error).__name__}: {error}"
            else:
                look, spent_s = self._looking.result()
                if look is not None:
                    view.look, view.trouble = look, ""
            self._due_s = now_s + max(LOOK_EVERY_S, IDLE_PER_LOOK * spent_s)
            self._looking = None
        if now_s >= self._due_s and self._run.variants.exists():
            self._looking = self._pool.submit(self._next)

    def _next(self) -> tuple[Look | None, float]:
        """A look, None without a new whole block; and the CPU seconds that it took."""
        from dyno.terminal.live.looks import RunLooks

        began_s = time.thread_time()
        self._looks = self._looks or RunLooks(self._run)
        return self._looks.next(), time.thread_time() - began_s


if __name__ == "__main__":
    main()
