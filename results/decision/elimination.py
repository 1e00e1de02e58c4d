"""Who leaves a race at a look, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from results.decision.rivals import Worse
from results.race import Departure
from results.summary import VariantVerdict

Compare = Callable[[str, str], Sequence[Worse]]
"""The numbers in which the first variant is worse than the second; none if it is not worse in
everything."""


@dataclass(frozen=True)
class Standings:
    """A race at a look: the verdicts so far on the variants that are left.

    `block`: the blocks that each has. `planned`: those of the experiment. `baseline`: a variant
    that stays while another does, since an objective refers to it; None if none does.
    """

    verdicts: Sequence[VariantVerdict]
    block: int
    planned: int
    baseline: str | None


def departures(standings: Standings, compare: Compare) -> list[Departure]:
    """The variants that leave: shown to break an objective, worse than another, or settled.

    What one verdict shows does not depend on who else leaves. A variant that is worse leaves while
    the other stays.
    """
    leaving = [_breaks(verdict, standings.block) for verdict in _broken(standings.verdicts)]
    left = _without(standings.verdicts, leaving)
    for verdict in left:
        rivals = _without(_without(left, leaving), [verdict])
        if verdict.variant == standings.baseline:
            continue
        if (worse := _worse(verdict.variant, rivals, compare, standings.block)) is not None:
            leaving.append(worse)
    left = _without(left, leaving)
    if standings.block >= standings.planned or all(map(_passes, left)):
        leaving += [_settled(verdict, standings.block) for verdict in left if _passes(verdict)]
    return _keeping(standings, leaving)


def _broken(verdicts: Sequence[VariantVerdict]) -> list[VariantVerdict]:
    return [verdict for verdict in verdicts if verdict.decision == "DON'T SHIP"]


def _passes(verdict: VariantVerdict) -> bool:
    """Whether it ships, or nothing is asked of it: a baseline, if all limits refer to it."""
    return verdict.decision == "SHIP" or not verdict.objectives


def _keeping(standings: Standings, leaving: list[Departure]) -> list[Departure]:
    """The departures, less that of a baseline that another variant is still held against."""
    staying = {v.variant for v in standings.verdicts} - {d.variant for d in leaving}
    if not staying - {standings.baseline}:
        return leaving
    return [each for each in leaving if each.variant != standings.baseline]


def _without(
    verdicts: Sequence[VariantVerdict], others: Collection[Departure | VariantVerdict]
) -> list[VariantVerdict]:
    names = {each.variant for each in others}
    return [verdict for verdict in verdicts if verdict.variant not in names]


def _breaks(verdict: VariantVerdict, block: int) -> Departure:
    broken = next(o for o in verdict.objectives if o.label == verdict.binding)
    return Departure(
        variant=verdict.variant,
        block=block,
        reason="breaks",
        objective=broken.label,
        sentence=broken.sentence,
    )


def _settled(verdict: VariantVerdict, block: int) -> Departure:
    sentence = (
        "every objective is shown to hold" if verdict.objectives else "nothing is asked of it"
    )
    return Departure(
        variant=verdict.variant,
        block=block,
        reason="settled",
        objective=verdict.binding,
        sentence=sentence,
    )


def _worse(
    variant: str, rivals: Sequence[VariantVerdict], compare: Compare, block: int
) -> Departure | None:
    for rival in rivals:
        if numbers := compare(variant, rival.variant):
            by = " and ".join(f"{each.label} ({each.least} at least)" for each in numbers)
            return Departure(
                variant=variant,
                block=block,
                reason="worse",
                objective=numbers[0].label,
                sentence=f"it is worse than {rival.variant} in {by}; in all else that is asked "
                f"{rival.variant} is as good or keeps the limit",
                than=rival.variant,
            )
    return None
