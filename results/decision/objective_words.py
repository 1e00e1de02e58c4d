"""How an objective is put into words: its numbers, and the side of its limit that is allowed."""

from __future__ import annotations

from functools import partial

from foundation.format import Write, change, points, written
from results.decision.objectives import ObjectiveSpec
from results.metrics import RECORDS
from results.summary import Objective


def writer(objective: ObjectiveSpec | Objective) -> Write:
    """Writes a change of quality in points, one of cost in per cent, the rest with its unit."""
    if not is_change(objective):
        return partial(written, objective.unit)
    return points if objective.kind == "quality" else change


def is_change(objective: ObjectiveSpec | Objective) -> bool:
    """Whether the objective is on a difference to the baseline, which has no unit of its own."""
    if objective.kind == "quality":
        return objective.metric != "quality"
    return objective.metric == "cost_increase"


def is_floor(objective: ObjectiveSpec | Objective) -> bool:
    """Whether the allowed side is above the limit."""
    if objective.kind == "slo":
        return RECORDS[objective.metric].better == "higher"
    return objective.kind == "quality"


def sign(objective: ObjectiveSpec | Objective) -> str:
    """What stands before the limit."""
    return "≥" if is_floor(objective) else "≤"
