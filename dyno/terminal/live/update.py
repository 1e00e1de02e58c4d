"""What a run tells the process that draws its screen."""

from __future__ import annotations

import msgspec


class Stage(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A stage of `total` units begins; None: nobody knows how many."""

    name: str
    total: float | None
    unit: str


class Advance(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """`amount` more units are finished. `note`: the words under the bar; empty: the same."""

    amount: float
    note: str


class Log(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A line that stays above the screen."""

    line: str


class Watch(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The run directory whose journals grow from now on."""

    run: str


Update = Stage | Advance | Log | Watch
"""One line of JSON on the standard input of the process."""
