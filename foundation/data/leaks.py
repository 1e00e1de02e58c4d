"""Finds leaks: prompts in both the training and the held-out split, whose scores mean nothing."""

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
    """Every training example whose prompt (`Example.key`) is held out too, in order."""
    first = {example.key: example for example in reversed(heldout)}
    return [Leak(example, first[example.key]) for example in train if example.key in first]


def without_leaks(
    train: Sequence[Example], heldout: Sequence[Example], on_leak: OnLeak
) -> tuple[list[Example], str | None]:
    """The examples to learn, and a sentence about leaks (None if there is no leak).

    "drop" leaves leaks out of training and keeps the held-out split; "allow" keeps them. Raises
    BadInput for "refuse", which names both lines of the first leaks.
    """
    leaks = find_leaks(train, heldout)
    if not leaks:
        return list(train), None
    lines = ", ".join(f"{leak.learned.where} = {leak.heldout.where}" for leak in leaks[1:_NAMED])
    dots = ", ..." if len(leaks) > _NAMED else ""
    more = f" (and {len(leaks) - 1} more: {lines}{dots})" if len(leaks) > 1 else ""
    sentence = (
        f"{leaks[0].learned.where}: the same question stands in the held-out split "
        f"at {leaks[0].heldout.where}{more}"
    )
    if on_leak == "refuse":
        raise BadInput(
            f"{sentence}; spaces, case and Unicode forms apart. "
            "Remove it from one of them, or write data.on_leak: drop or allow"
        )
    if on_leak == "allow":
        consequence = "data.on_leak allows it: scores on the held-out split say less"
        return list(train), f"{sentence}; {consequence}"
    leaked = {id(leak.learned) for leak in leaks}
    kept = [example for example in train if id(example) not in leaked]
    if not kept:
        raise BadInput(f"{sentence}; data.on_leak: drop leaves nothing to learn from")
    return kept, f"{sentence}; left out of training (data.on_leak: drop)"
