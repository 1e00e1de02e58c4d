"""How a long stage tells how far it is, without knowing who watches."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """One bar a stage. `dyno.terminal.progress` draws it on a terminal and writes plain lines into a pipe."""

    def stage(self, name: str, total: float | None, unit: str) -> None:
        """Begin a stage of `total` `unit`s (None: not known); the one before it is done."""

    def advance(self, amount: float = 1, note: str = "") -> None:
        """`amount` more units are done; `note` replaces the words behind the bar."""

    def log(self, line: str) -> None:
        """A line that stays on the screen above the bar."""


class Silent:
    """Tells nobody. For tests and for use as a library."""

    def stage(self, name: str, total: float | None, unit: str) -> None: ...

    def advance(self, amount: float = 1, note: str = "") -> None: ...

    def log(self, line: str) -> None: ...
