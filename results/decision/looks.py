"""How a race shares the 5 % of either error among its looks and its variants.

A look after each round of blocks may end the load of a variant. Every look spends a part of the
error that is fixed before the first block (alpha spending: K. K. G. Lan, D. L. DeMets, "Discrete
sequential boundaries for clinical trials", Biometrika 70, 1983). The parts add up to 5 %, a union
bound. So it holds for any dependence of the looks, and however the race goes on.

- A false departure: 5 % for all variants together. Half is for "breaks an objective", shared evenly
  among the looks before the last; a quarter, shared alike, for "worse than another". An eighth,
  shared alike, is for the times and rates of the other, which it may be shown to keep its limits
  on. An eighth is for its limits on shares, which no request so far may have counted against. That
  is a single test, however often one looks.
- A false SHIP: the looks that may be the last share four fifths of 5 %, those before them one
  fifth. At each look the variants that are not shown to break an objective share it. Those that
  are shown to break one are no candidates (J. Tian, A. Ramdas, "Online control of the familywise
  error rate", Stat. Methods Med. Res. 30, 2021, on discarding).
- A false DON'T SHIP of a variant that stays: what its departures left of its own 5 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from results.decision.objectives import ALPHA
from results.race import Departure, ErrorShares

FIRST_LOOK = 2
"""One block tells nothing of the spread between blocks."""
KEPT = 0.8
"""The part of a false SHIP's error that is kept for the looks that may be the last."""
FOR_BREAKS, FOR_WORSE, FOR_LIMITS, FOR_SHARES = 0.5, 0.25, 0.125, 0.125
"""The parts of a false departure's error: broken objectives, worse than a rival, and what the rival
keeps: its limits on times and rates, and those on shares.
"""


@dataclass(frozen=True)
class LookPlan:
    """The looks of a race, fixed before its first block.

    `blocks`: those of the experiment. `variants`: how many start. `more`: the rising numbers of
    blocks at which a run that goes on until it is decided is judged again.
    """

    blocks: int
    variants: int
    more: tuple[int, ...] = ()

    @property
    def before(self) -> range:
        """The looks that are never the last, by the number of blocks."""
        return range(FIRST_LOOK, self.blocks)

    @property
    def verdicts(self) -> tuple[int, ...]:
        """The looks that may be the last."""
        return (self.blocks, *self.more)

    @property
    def last(self) -> int:
        """The most blocks of a variant."""
        return self.verdicts[-1]

    @property
    def departures(self) -> tuple[int, ...]:
        """The looks at which a variant may leave: all but the last."""
        return (*self.before, *self.verdicts[:-1])

    def breaks(self) -> float:
        """The probability of a false "breaks an objective" of one variant at one look."""
        return ALPHA * FOR_BREAKS / self.variants / max(len(self.departures), 1)

    def worse(self) -> float:
        """The probability of a false "worse" of one variant and one rival at one look."""
        each = ALPHA * FOR_WORSE / self.variants / max(len(self.departures), 1)
        return each / max(self.variants - 1, 1)

    def limits(self) -> float:
        """The probability that a limit is falsely shown to be kept, of one rival at one look."""
        return ALPHA * FOR_LIMITS / self.variants / max(len(self.departures), 1)

    def shares(self) -> float:
        """The same for limits on shares of requests, of one rival in the whole race."""
        return ALPHA * FOR_SHARES / self.variants

    def ship(self, block: int, candidates: int) -> float:
        """The probability of a false SHIP of one variant at one look.

        `candidates`: how many variants are not shown to break an objective.
        """
        kept = KEPT if len(self.before) else 1.0
        if block in self.before:
            return ALPHA * (1 - kept) / len(self.before) / max(candidates, 1)
        return ALPHA * kept / len(self.verdicts) / max(candidates, 1)

    def candidates(self, departed: Iterable[Departure]) -> int:
        """How many variants are not shown to break an objective, by who left so far."""
        return self.variants - sum(each.reason == "breaks" for each in departed)

    def at_look(self, block: int, candidates: int) -> ErrorShares:
        """What a verdict that ends a variant's load may spend."""
        return ErrorShares(ship=self.ship(block, candidates), breaks=self.breaks())

    def at_end(self, candidates: int) -> ErrorShares:
        """What the verdict on a variant that stayed may spend."""
        departures = self.breaks() * len(self.departures)
        return ErrorShares(
            ship=self.ship(self.last, candidates),
            breaks=(ALPHA - departures) / len(self.verdicts),
        )

    def errors(self, names: Iterable[str], departed: Sequence[Departure]) -> dict[str, ErrorShares]:
        """What the verdict on each variant may spend, by who left so far."""
        at_end = self.at_end(self.candidates(departed))
        before = {
            each.variant: [other for other in departed if other.block < each.block]
            for each in departed
        }
        spent = {
            each.variant: self.at_look(each.block, self.candidates(before[each.variant]))
            for each in departed
        }
        return {name: spent.get(name, at_end) for name in names}
