"""The outcome of each number and its sentence: worse, better, no different, or not settled.

A change is shown where Holm's correction over everything compared rejects that there is none, so
that two equal runs are called different, in whatever number, in at most 5 % of comparisons. "No
difference" is never a lack of evidence: both ends of the change must be shown, each at 5 %, to lie
within the margin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

from foundation.format import change, difference, points, quantity
from results.comparison.stored_runs.evidence import Evidence
from results.statistics.intervals import Bounds, holm
from results.statistics.unpaired import finite
from results.summary import Estimate, Interval, Metric, RunChange

MARGIN = 0.05
TAIL_FACTOR = 2.0
FAILURES_MARGIN = 0.01
_TAILS = ("_p90", "_p95", "_p99", "_p99.9")

Outcome = Literal["better", "worse", "equivalent", "no worse", "unsettled", "not compared"]


@dataclass(frozen=True)
class Compared:
    """One metric of one variant in two runs, before its outcome is known.

    `barred`: why it is not compared at all. `held`: why it is compared and yet nothing is
    concluded. `cause`: what a change of it is made of, as words that follow a sentence.
    """

    variant: str
    stage: str | None
    key: str
    metric: Metric
    before: Estimate
    after: Estimate
    evidence: Evidence
    margin: float
    barred: str | None = None
    held: str | None = None
    cause: str = ""

    @property
    def is_share(self) -> bool:
        """Whether a change is in points of a share."""
        return self.metric.unit == "share"

    @property
    def scale(self) -> float:
        """The measure of a change: the earlier value, or 1 for points of a share."""
        return 1.0 if self.is_share else self.evidence.before or 0.0

    @property
    def bounds(self) -> Bounds:
        """The one-sided bounds of the change, in the measure of the margin.

        Infinite if the earlier value is zero.
        """
        sides = self.evidence.sides
        if self.scale <= 0:
            return sides if sides == Bounds(0.0, 0.0) else Bounds(-inf, inf)
        return Bounds(sides.low / self.scale, sides.high / self.scale)


def margin_of(
    key: str, is_counted: bool, margin: float = MARGIN, limits: Sequence[float | None] = ()
) -> float:
    """The largest change that counts as none.

    `margin` itself for amounts, and for scores in points; twice as much for percentiles above the
    median, which scatter more; one point for shares of counted requests. `limits` are changes that
    an objective allows: the least of them, if it is less.
    """
    amount = margin * TAIL_FACTOR if key.endswith(_TAILS) else margin
    usual = FAILURES_MARGIN if is_counted else amount
    return min([usual, *(limit for limit in limits if limit is not None and limit > 0)])


def outcomes(compared: Sequence[Compared]) -> list[RunChange]:
    """The outcomes of two runs together: of more numbers, more look different by chance."""
    open_ = {
        str(i): each.evidence.p
        for i, each in enumerate(compared)
        if each.barred is None and each.held is None
    }
    rejected = holm({name: p for name, p in open_.items() if p is not None})
    return [_concluded(each, rejected.get(str(i), False)) for i, each in enumerate(compared)]


def _concluded(each: Compared, is_shown: bool) -> RunChange:
    outcome = outcome_of(each, is_shown)
    bounds = each.bounds
    return RunChange(
        variant=each.variant,
        stage=each.stage,
        metric=each.key,
        label=each.metric.label,
        unit=each.metric.unit,
        before=each.before,
        after=each.after,
        difference=each.evidence.difference,
        margin=each.margin,
        bounds=Interval(bounds.low, bounds.high) if finite(bounds) else None,
        outcome=outcome,
        sentence=_sentence(each, outcome),
    )


def outcome_of(each: Compared, is_shown: bool) -> Outcome:
    """The outcome of one number.

    A share that is shown to have changed has changed, however little; an amount may change within
    its margin. "no worse" needs only the bound on the worse side to lie within the margin.
    """
    if each.barred is not None:
        return "not compared"
    moved, bounds = each.evidence.change, each.bounds
    if each.held is not None or moved is None or each.evidence.p is None:
        return "unsettled"
    capped_above, capped_below = bounds.high <= each.margin, -each.margin <= bounds.low
    lower = each.metric.better == "lower"
    if is_shown and (each.is_share or not (capped_above and capped_below)):
        return "worse" if (moved > 0) == lower else "better"
    if capped_above and capped_below:
        return "equivalent"
    return "no worse" if (capped_above if lower else capped_below) else "unsettled"


def _sentence(each: Compared, outcome: Outcome) -> str:
    was = f"{each.metric.label} was {_value(each.before, each)} and is {_value(each.after, each)}"
    evidence = each.evidence
    if each.barred is not None:
        return f"{was}: not compared: {each.barred}"
    if evidence.change is None:
        return f"{was}: unsettled: {evidence.reason}"
    if each.held is not None or evidence.p is None:
        return (
            f"{was}: unsettled: "
            f"{'; '.join(reason for reason in (evidence.reason, each.held) if reason)}"
        )
    size = _size(each, evidence.change)
    if outcome in ("worse", "better"):
        return f"{was}: {outcome}, {size} ({_shown_by(each)}){each.cause}"
    margin = margin_text(each.margin, each.is_share)
    allowed = (
        f"the data allow {_size(each, evidence.sides.low)} to {_size(each, evidence.sides.high)}"
    )
    if outcome == "unsettled":
        return (
            f"{was}: unsettled: {allowed}, and up to {margin} would count as none; measure more "
            f"{evidence.of}{each.cause}"
        )
    settled = "no difference beyond" if outcome == "equivalent" else "not worse by more than"
    return f"{was}: {settled} {margin} ({size}; {allowed}){each.cause}"


def _value(side: Estimate, each: Compared) -> str:
    return "not known" if side.value is None else quantity(side.value, each.metric.unit)


def _size(each: Compared, moved: float) -> str:
    if each.is_share:
        return points(moved)
    return change(moved / each.scale) if each.scale > 0 else difference(moved, each.metric.unit)


def _shown_by(each: Compared) -> str:
    evidence = each.evidence
    if evidence.test:
        return (
            f"{evidence.test}: p "
            f"{f'= {evidence.p:.2g}' if evidence.p and evidence.p > 1e-4 else '< 0.0001'}"
        )
    return (
        f"95 % interval: {_size(each, evidence.interval.low)} to "
        f"{_size(each, evidence.interval.high)}"
    )


def margin_text(margin: float, is_share: bool) -> str:
    """The margin in per cent, or in points of a share."""
    number = f"{margin * 100:g}"
    return (
        f"{number} %"
        if not is_share
        else f"{number} point"
        if number == ("1")
        else f"{number} points"
    )
