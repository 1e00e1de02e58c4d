"""How much more data would settle an objective, if what was measured stays as it is.

Blocks are counted by how t over them shrinks, failures and right answers by the exact binomial
bounds that decide them, graded scores by the very bounds that decide them, on more scores like the
ones there are. So many settle it in four of five runs like this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, inf, isfinite, log, sqrt
from typing import Literal

import numpy as np
from scipy.special import bdtr, bdtrik, ndtri, stdtrit

from foundation.arrays import Floats
from results.decision.objectives import ObjectiveSpec, Tails, outcome_of
from results.measures.shares import share_counts
from results.measures.steady_state import StageData
from results.metrics import FLOORS, RECORDS
from results.statistics.bounded_means import paired_score_bounds, score_bounds
from results.statistics.intervals import floor_reason, share_bounds, smallest
from results.summary import Judged, More

Unit = Literal["blocks", "prompts"]
POWER, HARDLY = 0.8, 0.5
HALVINGS = 40
HOPELESS = 20
"""If so many times the data settle it in under half of all runs, more data hardly will."""


def to_settle(
    spec: ObjectiveSpec,
    judged: Judged,
    tails: Tails,
    stage: StageData | None,
    scores: Sequence[float] = (),
    unit: Unit | None = "blocks",
) -> More | None:
    """The data that would settle an open objective; None if it is settled, or nobody knows.

    `scores`: one a prompt (a difference to the baseline's where the objective is on that), of an
    objective of quality. `unit`: what the bounds of any other spread over, None where that is not
    one thing.
    """
    if stage is None or stage.n == 0 or outcome_of(spec, judged) != "unsettled":
        return None
    if judged.value.value is None:
        return _to_judge(spec, judged, len(stage.blocks))
    if judged.reason is not None or judged.limit is None:
        return None
    if spec.kind == "slo" and RECORDS[spec.metric].kind == "share" and not spec.relative:
        return More(unit="requests", total=_requests(spec, judged, stage, tails))
    if spec.kind == "quality" and len(scores):
        return More(
            unit="prompts", total=prompts_to_settle(spec, np.asarray(scores), judged.limit, tails)
        )
    units = judged.value.n if unit == "prompts" else len(stage.blocks)
    if unit is None or units < 2 or (reach := reach_of(judged)) is None:
        return None
    tail = (
        tails.pessimistic if _within(spec, judged.value.value, judged.limit) else tails.optimistic
    )
    return More(unit=unit, total=units_to_settle(reach, units, tail))


def _within(spec: ObjectiveSpec, value: float, limit: float) -> bool:
    return value <= limit if spec.better == "lower" else value >= limit


def _to_judge(spec: ObjectiveSpec, judged: Judged, blocks: int) -> More | None:
    """How many blocks lift a percentile over its floor, where nothing else is wrong with it."""
    _, _, statistic = spec.metric.rpartition("_p")
    q, n = float(statistic) if statistic.replace(".", "").isdigit() else 0.0, judged.value.n
    if q not in FLOORS or not n or judged.reason != floor_reason(q, n):
        return None
    return More(unit="blocks", total=ceil(FLOORS[q] * blocks / n), to="judge")


def _requests(spec: ObjectiveSpec, judged: Judged, stage: StageData, tails: Tails) -> int | None:
    """In bursts of failures a request is worth less than one, and it takes as many more."""
    events, n = share_counts(spec.metric, stage)
    limit, share = judged.limit, events / n
    bound = judged.pessimistic if share < (limit or 0.0) else judged.optimistic
    tail = tails.pessimistic if share < (limit or 0.0) else tails.optimistic
    if limit is None or bound is None:
        return None

    def as_wide(worth: float) -> bool:
        exact = share_bounds(share * worth, worth, tail, tail)
        return exact.high >= bound if bound > share else exact.low <= bound

    low, high = 0.0, float(n)
    for _ in range(HALVINGS if not as_wide(n * (1 - 1e-9)) else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if as_wide(middle) else (low, middle)
    total = requests_to_settle(events, n, limit, tails)
    return None if total is None else ceil(total * n / high)


def reach_of(judged: Judged) -> float | None:
    """The distance of the open bound from the value, over that of the limit.

    In logarithms if all are positive. None if the data bound nothing on the limit's side.
    """
    value, limit = judged.value.value, judged.limit
    assert value is not None and limit is not None
    if value == limit:
        return inf
    bounds = [
        b
        for b in (judged.pessimistic, judged.optimistic)
        if b is not None and (b - value) * (limit - value) > 0
    ]
    if not bounds:
        return None
    if min(value, limit, *bounds) > 0:
        return log(bounds[0] / value) / log(limit / value)
    return (bounds[0] - value) / (limit - value)


def units_to_settle(reach: float, units: int, tail: float = 0.05) -> int | None:
    """The blocks or prompts in all that pull in a bound `reach` times as far away as the limit.

    The bound comes closer as t over the units shrinks, and moves by chance as the value does. None
    where `HOPELESS` times as many are hardly enough.
    """
    if units < 2 or not isfinite(reach):
        return None
    now = -float(stdtrit(units - 1, tail)) / sqrt(units)

    def enough(k: int, power: float) -> bool:
        return reach * (float(ndtri(power)) - float(stdtrit(k - 1, tail))) / sqrt(k) <= now

    return smallest(units, lambda k: enough(k, POWER)) if enough(HOPELESS * units, HARDLY) else None


def requests_to_settle(events: int, n: int, limit: float, tails: Tails) -> int | None:
    """The requests, failing at the share seen, that settle on which side of `limit` it lies.

    Exact: of so many, the number that the limit allows at most is kept (or the one that breaks it
    is reached) with the probability `POWER`. None where the share lies on the limit, or a hundred
    million are not enough.
    """
    share = events / n
    if share == limit or not 0 < limit < 1:
        return None

    def enough(m: int) -> bool:
        if share < limit:
            possible = float(bdtr(0, m, limit)) <= tails.pessimistic
            most = floor(float(bdtrik(tails.pessimistic, m, limit)) + 1e-9)
            return possible and float(bdtr(most, m, share)) >= POWER
        fewest = floor(float(bdtrik(1 - tails.optimistic, m, limit)) + 1e-9) + 2
        return fewest <= m and 1 - float(bdtr(fewest - 1, m, share)) >= POWER

    return smallest(n, enough) or None


def prompts_to_settle(
    spec: ObjectiveSpec, scores: Floats, limit: float, tails: Tails
) -> int | None:
    """The prompts, scored like those seen, that settle it.

    None if `HOPELESS` times as many hardly do.
    """
    n, mean, deviation = len(scores), float(np.mean(scores)), float(np.std(scores))
    if mean == limit:
        return None
    bounds_of, ordered = (
        score_bounds if spec.key == "quality" else paired_score_bounds,
        np.sort(scores),
    )

    def enough(m: int, power: float) -> bool:
        """Of m scores spread like those seen, moved to the limit as chance moves their mean."""
        bounds = bounds_of(
            ordered[(np.arange(m) * 2 + 1) * n // (2 * m)], tails.pessimistic, tails.optimistic
        )
        moved = float(ndtri(power)) * deviation / sqrt(m)
        return bounds.low - moved >= limit if mean > limit else bounds.high + moved < limit

    return smallest(n, lambda m: enough(m, POWER)) if enough(HOPELESS * n, HARDLY) else None
