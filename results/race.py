"""The schema of `race.json`: who left a race, when and why, and how the error was shared."""

from __future__ import annotations

from typing import Literal

import msgspec


class ErrorShares(msgspec.Struct, frozen=True, kw_only=True):
    """What a variant's verdict may spend of the 5 % of either error.

    `ship`: the probability of a false SHIP. `breaks`: that of a false DON'T SHIP.
    """

    ship: float
    breaks: float


class Departure(msgspec.Struct, frozen=True, kw_only=True):
    """A variant that is loaded no more.

    `block`: its last one in the judged stage. `objective`: the label of what it breaks, or of what
    it is worse in. `than`: the variant that it is worse than.
    """

    variant: str
    block: int
    reason: Literal["breaks", "worse", "settled"]
    objective: str | None
    sentence: str
    than: str | None = None

    @property
    def is_lost(self) -> bool:
        """Whether the variant is out, and not just measured enough."""
        return self.reason != "settled"


class Race(msgspec.Struct, frozen=True, kw_only=True):
    """`race.json`. `errors`: by variant, those of the look that its verdict is made at.

    `blocks_full`: those of all stages without a race. `blocks_measured`: those with a journal.
    """

    departures: list[Departure] = []
    errors: dict[str, ErrorShares] = {}
    blocks_full: int = 0
    blocks_measured: int = 0

    def departure(self, variant: str) -> Departure | None:
        """When and why a variant left; None if it stayed."""
        return next((each for each in self.departures if each.variant == variant), None)
