"""Who was measured how long in a race, and why others were measured no more."""

from __future__ import annotations

from dataclasses import dataclass

from foundation.format import percent
from results.report.table import in_order
from results.summary import Summary


@dataclass(frozen=True)
class Raced:
    """A variant of a race. `blocks`: those of the judged stage. `share`: of the longest, 0 to 1."""

    variant: str
    blocks: int
    share: float
    why: str


def raced(summary: Summary) -> list[Raced]:
    """The variants of a race, in the order of the report; none without a race."""
    race = summary.race
    if race is None:
        return []
    blocks = {
        variant.variant: stage.blocks if (stage := variant.at_judged_stage) is not None else 0
        for variant in in_order(summary)
    }
    longest = max(blocks.values(), default=0)
    departures = {name: race.departure(name) for name in blocks}
    return [
        Raced(
            variant=name,
            blocks=count,
            share=count / longest if longest else 0.0,
            why="measured to the end"
            if (left := departures[name]) is None
            else f"{'passed' if left.reason == 'settled' else 'left'}: {left.sentence}",
        )
        for name, count in blocks.items()
    ]


def race_sentence(summary: Summary) -> str:
    """What the race saved; empty without one."""
    race = summary.race
    if race is None or not race.blocks_full:
        return ""
    if race.blocks_measured == race.blocks_full:
        return f"all {race.blocks_full} blocks were measured: no variant left early"
    saved = 1 - race.blocks_measured / race.blocks_full
    return (
        f"{race.blocks_measured} of {race.blocks_full} blocks were measured, {percent(saved)} "
        "fewer than without the race"
    )
