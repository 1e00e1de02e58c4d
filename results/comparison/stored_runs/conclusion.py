"""The conclusion of two runs: the gate opens if all was compared and nothing is worse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from results.comparison.stored_runs.outcomes import margin_text
from results.summary import RunChange

Conclusion = Literal["nothing worse", "worse", "unsettled", "nothing compared"]
_NAMED = 4


def conclude(
    changes: Sequence[RunChange], missing: Sequence[str], invalid: bool
) -> tuple[Conclusion, str]:
    """The conclusion, and a sentence that gives the reason.

    `missing`: what only the earlier run has. `invalid`: whether a measurement of what both have is
    INVALID.
    """
    by_outcome = {
        o: [c for c in changes if c.outcome == o] for o in ("worse", ("unsettled"), "not compared")
    }
    if worse := by_outcome["worse"]:
        return (
            "worse",
            f"Worse: {_named(worse)}{_also(by_outcome['unsettled'] + by_outcome['not compared'])}.",
        )
    if not changes:
        return (
            "nothing compared",
            "Nothing is compared: "
            f"{_first(missing, 'the runs have no variant and stage in common')}.",
        )
    if len(by_outcome["not compared"]) == len(changes):
        if invalid:
            return "unsettled", "Not settled: nothing is compared, since a measurement is INVALID."
        return "nothing compared", "Nothing is compared: the runs were asked different things."
    reasons = []
    if unsettled := by_outcome["unsettled"]:
        reasons.append(_named(unsettled))
    if barred := by_outcome["not compared"]:
        reasons.append(f"not compared: {_named(barred)}")
    reasons += missing
    if reasons:
        return "unsettled", f"Not settled: {'; '.join(reasons)}."
    return "nothing worse", f"Nothing is worse: {_settled(changes)}."


def _settled(changes: Sequence[RunChange]) -> str:
    """How many numbers are what, none of them worse."""
    margins = sorted({(c.unit == "share", c.margin) for c in changes if c.outcome != "better"})
    texts = " or ".join(margin_text(margin, is_share) for is_share, margin in margins)
    count = {o: sum(c.outcome == o for c in changes) for o in ("equivalent", "no worse")}
    words = []
    if count["equivalent"]:
        words.append(
            f"{count['equivalent']} of {len(changes)} numbers show no difference beyond their "
            f"margin ({texts})"
        )
    if count["no worse"]:
        words.append(
            f"{count['no worse']} of {len(changes)} are not worse by more than their margin "
            f"({texts})"
        )
    if better := [c for c in changes if c.outcome == "better"]:
        words.append(f"better: {_named(better)}")
    return "; ".join(words)


def _named(changes: Sequence[RunChange]) -> str:
    """The labels by place, the first few of them."""
    places: dict[str, list[str]] = {}
    for change in changes[:_NAMED]:
        places.setdefault(place(change), []).append(change.label)
    words = "; ".join(f"{where}: {', '.join(labels)}" for where, labels in places.items())
    more = len(changes) - _NAMED
    return f"{words} and {more} more" if more > 0 else words


def _also(open_: Sequence[RunChange]) -> str:
    return (
        f"; {len(open_)} more are not settled"
        if len(open_) > 1
        else ("; one more is not settled")
        if open_
        else ""
    )


def _first(reasons: Sequence[str], otherwise: str) -> str:
    return "; ".join(reasons) or otherwise


def place(change: RunChange) -> str:
    """The variant, and the stage if the change is of one."""
    return f"{change.variant}, {change.stage}" if change.stage else change.variant
