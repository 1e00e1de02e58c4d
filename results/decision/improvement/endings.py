"""How improving ended, in words."""

from __future__ import annotations

from collections.abc import Sequence

from foundation.format import duration
from results.decision.improvement.record import Ending, ImproveRound, TriedRemedy
from results.decision.verdict import binding_of
from results.summary import VariantVerdict, Verdicts

_SHOWN = ("SHIP", "DON'T SHIP")
_OPTIONS = "what is left is a looser limit, another model, or not to tune"


def effect_text(factor: float | None) -> str:
    """A factor as it is written everywhere: "x 0.41"."""
    return "not known" if factor is None else f"x {factor:.2f}"


def ships(verdict: VariantVerdict, rounds: int) -> str:
    """A variant may ship."""
    took = f"After {rounds} round{'s' if rounds > 1 else ''}: " if rounds else ""
    return f"{took}{verdict.headline}"


def nothing_to_improve(verdicts: Verdicts) -> tuple[Ending, str]:
    """No variant that could be improved is short of its limits, and none is to ship."""
    if verdicts.recommended == verdicts.baseline:
        return "reconsider", f"Reconsider: {verdicts.headline}"
    return "not settled", f"Not settled: {verdicts.headline}"


def nothing_left(
    nearest: VariantVerdict, rounds: Sequence[ImproveRound], replicas: str | None
) -> tuple[Ending, str]:
    """No remedy is left. `nearest`: the variant that is nearest to shipping."""
    binding = binding_of(nearest.objectives)
    held_back = f"{nearest.variant}: {binding.sentence}" if binding else nearest.headline
    opened = [
        each.headline
        for round_ in rounds
        for each in round_.tried
        if each.decision not in _SHOWN and each.variant != nearest.variant
    ]
    if nearest.decision == "INCONCLUSIVE" or opened:
        best = opened[-1] if opened and nearest.decision in _SHOWN else held_back
        return (
            "not settled",
            f"Not settled: nothing is left to try, and it is open whether the best may ship. "
            f"{best}.",
        )
    question = nearest.question or f"Is what {nearest.variant} gains worth that? If not, {_OPTIONS}"
    parts = [
        f"Reconsider: nothing that is left is expected to help. {_tried(rounds)}",
        f"The best is still held back. {held_back}.",
        *([f"More replicas: {replicas}."] if replicas else []),
        f"{question.rstrip('.')}{'' if question.endswith('?') else '.'}",
    ]
    return "reconsider", " ".join(parts)


def _tried(rounds: Sequence[ImproveRound]) -> str:
    tried = [_effect(each, round_) for round_ in rounds for each in round_.tried]
    return f"Tried: {'; '.join(tried)}." if tried else "No remedy applies."


def _effect(tried: TriedRemedy, round_: ImproveRound) -> str:
    measured = tried.measured.value if tried.measured else None
    return (
        f"{tried.variant} ({round_.label} {effect_text(measured)}, expected "
        f"{effect_text(tried.expected)})"
    )


def time_over(limit: float) -> str:
    """The rounds took as long as they may. `limit`: in seconds."""
    return f"the time is over ({duration(limit)})"


def too_long(needed: float, left: float, limit: float, what: str = "the next round") -> str:
    """`what` takes longer than what is left of the limit; all in seconds."""
    return (
        f"{what} takes about {duration(needed)}, and {duration(left)} of {duration(limit)} are left"
    )


def stopped_early(
    ending: Ending, why: str, following: ImproveRound, nearest: VariantVerdict
) -> str:
    """Time or rounds are over. `following`: the round that would have come next, or was cut off."""
    more = "--max-time" if ending == "time over" else "--rounds"
    remedies = ", ".join(tried.remedy for tried in following.tried)
    rest = (
        f"left to try: {remedies}"
        if remedies
        else f"left: to measure longer, in {following.blocks} blocks"
    )
    return f"Not settled: {why}. {nearest.headline}; {rest}; go on with a larger {more}."
