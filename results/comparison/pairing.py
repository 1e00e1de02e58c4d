"""Pairs the blocks of a variant with those of the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from results.measures.steady_state import StageBlock, StageData


@dataclass(frozen=True)
class Pairing:
    """The blocks that both have, variant first, and what keeps the two from being alike.

    `alternated`: see `took_turns`.
    """

    blocks: Sequence[tuple[StageBlock, StageBlock]]
    notes: Sequence[str]
    alternated: bool | None = None


def pair(variant: StageData, base: StageData, names: tuple[str, str]) -> Pairing:
    """Blocks of the same number belong together.

    `names` are the variant's and the baseline's, for the notes.
    """
    theirs = {block.number: block for block in base.blocks}
    ours = {block.number: block for block in variant.blocks}
    both = sorted(ours.keys() & theirs.keys())
    notes = []
    for missing, name in (
        (theirs.keys() - ours.keys(), names[0]),
        (ours.keys() - theirs.keys(), names[1]),
    ):
        if missing:
            numbers = ", ".join(map(str, sorted(missing)))
            notes.append(f"{name} has no block {numbers}: left out of the comparison")
    blocks = [
        (ours[i], theirs[i]) for i in both if len(ours[i].requests) and len(theirs[i].requests)
    ]
    if both and any(ours[i].seed != theirs[i].seed for i in both):
        notes.append(
            "paired blocks were driven with different seeds: their arrivals differ, so the "
            "comparison is less sharp"
        )
    asked, base_asked = (
        {p for pair in blocks for p in pair[side].requests.prompt_id} for side in (0, 1)
    )
    if blocks and not asked & base_asked:
        notes.append(
            f"{names[0]} and {names[1]} were asked different prompts, none in common: no quality "
            "or tokens compared"
        )
    elif blocks and len(asked & base_asked) < 0.9 * max(len(asked), len(base_asked), 1):
        notes.append(
            f"{names[0]} was asked {len(asked)} prompts and {names[1]} {len(base_asked)}, "
            f"{len(asked & base_asked)} of them in common: quality and tokens are compared on those"
        )
    alternated = took_turns(blocks)
    if alternated is False:
        notes.append(
            f"{names[0]} and {names[1]} did not alternate: all blocks of one were over before the "
            "other's began, so what the machine did in between is part of every difference and "
            "outside its interval"
        )
    return Pairing(blocks, notes, alternated)


def took_turns(blocks: Sequence[tuple[StageBlock, StageBlock]]) -> bool | None:
    """Whether the blocks of the two lay between one another in time.

    None for a single pair, or where nobody noted the time.
    """
    if len(blocks) < 2 or any(
        span == (0.0, 0.0) for both in blocks for span in (both[0].span, both[1].span)
    ):
        return None
    (first, last), (base_first, base_last) = (
        (min(both[side].span[0] for both in blocks), max(both[side].span[1] for both in blocks))
        for side in (0, 1)
    )
    return first < base_last and base_first < last
