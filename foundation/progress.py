"""How a long stage reports its progress, whoever watches."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """One bar a stage; `dyno.terminal.progress` draws it, or writes plain lines into a pipe."""

    def stage(self, name: str, total: float | None, unit: str) -> None:
        """Begin a stage of `total` units (None: unknown); the stage before it is done."""

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Add `amount` finished units; `note` replaces the words behind the bar."""

    def log(self, line: str) -> None:
        """Write a line that stays above the bar."""


class Silent:
    """Reports nothing. For tests and for use as a library."""

    def stage(self, name: str, total: float | None, unit: str) -> None:
        """Do nothing."""

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Do nothing."""

    def log(self, line: str) -> None:
        """Do nothing."""
