"""Shows progress: one live screen on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from dyno.terminal.live.progress import LiveProgress
from foundation.format import rate_text
from foundation.printable import printable, visible
from foundation.run.layout import RunDirectory
from foundation.secrets import masked

PLAIN_EVERY_S = 5.0
PIPE_WIDTH = 140


class SafeConsole(Console):
    """A console that prints text from servers, data and file names as text, and hides keys in it.

    Control characters in it do nothing. Brackets and colons in it are no style and no emoji.
    """

    def __init__(self, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """The text without keys and control characters, as rich's own method renders it."""
        return super().render_str(printable(masked(text)), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The segments of anything printed, less control characters in its text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def open_console(stderr: bool = False) -> Console:
    """A console on standard output, or on `stderr`; in a pipe, wide enough for a table."""
    console = SafeConsole(stderr)
    return console if console.is_terminal else SafeConsole(stderr, PIPE_WIDTH)


class PlainProgress:
    """A line at each stage, and at most one every five seconds within it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._name, self._unit, self._total, self._done = "", "", 0.0, 0.0
        self._began = self._logged_at = time.monotonic()

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *_: object) -> None: ...

    def stage(self, name: str, total: float | None, unit: str) -> None:
        """Starts a stage of `total` units, None if unknown."""
        self._name, self._unit, self._total, self._done = name, unit, total or 0.0, 0.0
        self._began = self._logged_at = time.monotonic()
        self.log(f"{name}: {total:g} {unit}" if total else name)

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Adds finished units; `note` is shown beside the bar."""
        self._done += amount
        now = time.monotonic()
        if now - self._logged_at < PLAIN_EVERY_S:
            return
        self._logged_at = now
        rate = self._done / (now - self._began)
        left = f", {(self._total - self._done) / rate:.0f} s left" if self._total and rate else ""
        of = f"/{self._total:g}" if self._total else ""
        end = f"  {note}" if note else ""
        self.log(f"{self._name}: {self._done:g}{of} {self._unit}, {rate_text(rate)}/s{left}{end}")

    def log(self, line: str) -> None:
        """Prints a line."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def watch(self, run: RunDirectory) -> None:
        """Shows nothing more: plain lines are what a run says itself."""


ShownProgress = LiveProgress | PlainProgress


def progress_for(console: Console, *, live: bool = True) -> ShownProgress:
    """A live screen on a terminal that can redraw; plain lines elsewhere, and without `live`."""
    if live and console.is_terminal and console.file.isatty() and not console.is_dumb_terminal:
        return LiveProgress(console)
    return PlainProgress(console)
