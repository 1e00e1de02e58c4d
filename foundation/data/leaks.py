"""Leaks: prompts that are learned from and held out as well, so that a score on them says nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from foundation.data.examples import Example
from foundation.errors import BadInput

OnLeak = Literal["refuse", "drop", "allow"]
_NAMED = 5


class Leak(NamedTuple):
    """A training example and the first held-out one with the same prompt."""

    learned: Example
    heldout: Example


def find_leaks(train: Sequence[Example], heldout: Sequence[Example]) -> list[Leak]:
    """Every training example whose whole prompt (`Example.key`) is held out too, in the order of `train`."""
    first = {example.key: example for example in reversed(heldout)}
    return [Leak(example, first[example.key]) for example in train if example.key in first]


def without_leaks(
    train: Sequence[Example], heldout: Sequence[Example], on_leak: OnLeak
) -> tuple[list[Example], str | None]:
    """What may be learned, and what to say of leaks (None where there are none).

    "drop" leaves them out of training, so that the held-out split stays what it is; "allow" keeps them. Raises BadInput that
    names both lines of the first ones for "refuse".
    """
    leaks = find_leaks(train, heldout)
    if not leaks:
        return list(train), None
    lines = ", ".join(f"{leak.learned.where} = {leak.heldout.where}" for leak in leaks[1:_NAMED])
    more = (
        f" (and {len(leaks) - 1} more: {lines}{', ...' if len(leaks) > _NAMED else ''})"
        if len(leaks) > 1
        else ""
    )
    said = f"{leaks[0].learned.where}: the same question stands in the held-out split at {leaks[0].heldout.where}{more}"
    if on_leak == "refuse":
        raise BadInput(
            f"{said}; spaces, case and Unicode forms apart. Remove it from one of them, or write data.on_leak: drop or allow"
        )
    if on_leak == "allow":
        return list(train), f"{said}; data.on_leak allows it: scores on the held-out split say less"
    leaked = {id(leak.learned) for leak in leaks}
    kept = [example for example in train if id(example) not in leaked]
    if not kept:
        raise BadInput(f"{said}; data.on_leak: drop leaves nothing to learn from")
    return kept, f"{said}; left out of training (data.on_leak: drop)"
