"""Every metric of two sides, as evidence: of a stage, of a variant, and of its probes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import nan

import numpy as np
from msgspec import structs

from foundation.arrays import Floats
from foundation.format import change, quantity
from foundation.run.requests import Requests
from results.comparison.stored_runs.evidence import (
    Evidence,
    by_blocks,
    by_counts,
    by_prompts,
    by_scores,
    not_comparable,
)
from results.comparison.stored_runs.outcomes import Compared, margin_of
from results.comparison.stored_runs.sides import Side, StageQuestion
from results.config import Price
from results.inputs import RunInputs
from results.measures.cost import cost_per_request, is_metered, rent, request_costs
from results.measures.measured import Scores
from results.measures.shares import counts_of
from results.measures.steady_state import StageData
from results.measures.values import Limits, block_statistics, per_request
from results.metrics import METRICS, RECORDS, keys
from results.statistics.bounded_means import score_bounds
from results.statistics.intervals import TAIL, absent, estimate
from results.statistics.prompt_totals import prompt_totals
from results.statistics.unpaired import Counted
from results.summary import Estimate


def stage_metrics_of(before: Side, after: Side) -> tuple[str, ...]:
    """What is compared of a stage: the usual, and every SLO of either run."""
    return tuple(
        dict.fromkeys(
            (
                *keys("always compared"),
                *keys("compared"),
                *before.inputs.slo.limits,
                *after.inputs.slo.limits,
            )
        )
    )


def stage_changes(
    name: str, stage: str, before: Side, after: Side, question: StageQuestion, margin: float
) -> Iterator[Compared]:
    """Compares a stage's metrics.

    A metric that neither run has is left out, unless an SLO names it or it is always compared.
    """
    sides, limits = (before, after), (before.limits(stage), after.limits(stage))
    metrics = [side.stage(stage).metrics for side in sides]
    measured = _StageData.of(sides, stage)
    for key in stage_metrics_of(before, after):
        values = metrics[0][key], metrics[1][key]
        needed = "always compared" in RECORDS[key].places or any(
            key in side.inputs.slo.limits for side in sides
        )
        if values[0].value is None and values[1].value is None and not needed:
            continue
        evidence = not_comparable(*values, (before.run, after.run))
        allowed = [_slo_allows(side.inputs, key) for side in sides]
        barred = [*question.barred, *(_other_limits(*limits) if key == "goodput" else ())]
        yield Compared(
            name,
            stage,
            key,
            METRICS[key],
            *values,
            evidence or _evidence(key, values, measured, question),
            margin_of(key, RECORDS[key].kind == "share", margin, allowed),
            "; ".join(barred) or None,
            "; ".join(question.held) or None,
        )


@dataclass(frozen=True)
class _StageData:
    """A stage of both runs, and the statistics of each of its blocks by metric."""

    old: StageData
    new: StageData
    statistics: tuple[list[dict[str, float]], list[dict[str, float]]]

    @classmethod
    def of(cls, sides: tuple[Side, Side], stage: str) -> _StageData:
        data = [side.variant.stages[stage] for side in sides]
        old, new = (
            [block_statistics(block, side.limits(stage)) for block in each.blocks]
            for side, each in zip(sides, data, strict=True)
        )
        return cls(data[0], data[1], (old, new))


def _evidence(
    key: str, values: tuple[Estimate, Estimate], measured: _StageData, question: StageQuestion
) -> Evidence:
    """Of a metric that both runs have, by what its kind of number is counted over."""
    old, new, kind = measured.old, measured.new, RECORDS[key].kind
    if kind == "share":
        counted = [
            Counted.of([counts_of(key, block.requests) for block in side.blocks])
            for side in (old, new)
        ]
        return by_counts(counted[0], counted[1])
    if kind == "tokens" and (evidence := _tokens(key, old, new, values, question)):
        return evidence
    assert values[0].value is not None and values[1].value is not None
    each = [[block.get(key, nan) for block in side] for side in measured.statistics]
    paired = kind == "rate" and _same_arrivals(old, new)
    return by_blocks(values[0].value, values[1].value, each[0], each[1], paired=paired)


def _other_limits(before: Limits, after: Limits) -> list[str]:
    """Why goodput counts other requests in the later run: by other limits on their times."""
    changed = [
        f"{RECORDS[f'{family}_mean'].label.removesuffix(' mean')} {_ms(before.get(family))} -> "
        f"{_ms(after.get(family))}"
        for family in dict.fromkeys((*before, *after))
        if before.get(family) != after.get(family)
    ]
    return [f"goodput counts by other limits: {', '.join(changed)}"] if changed else []


def _ms(limit: float | None) -> str:
    return "none" if limit is None else quantity(limit, "ms")


def _same_arrivals(old: StageData, new: StageData) -> bool:
    """Whether both runs drew an open loop's blocks by the same seeds.

    Then most of a rate's spread is common to both.
    """
    seeds = [[(block.number, block.seed) for block in side.blocks] for side in (old, new)]
    return old.offered_rate is not None and seeds[0] == seeds[1]


def _tokens(
    key: str,
    old: StageData,
    new: StageData,
    values: tuple[Estimate, Estimate],
    question: StageQuestion,
) -> Evidence | None:
    each = [
        prompt_totals(
            [block.requests for block in side.blocks],
            partial(per_request, family=RECORDS[key].family),
        )
        for side in (old, new)
    ]
    totals = question.before.totals_by_question(each[0]), question.after.totals_by_question(each[1])
    assert values[0].value is not None and values[1].value is not None
    return by_prompts(values[0].value, values[1].value, *totals)


def _slo_allows(inputs: RunInputs, key: str) -> float | None:
    """How far an SLO lets a metric move: a relative limit, or all of a share's limit."""
    limit = inputs.slo.limits.get(key)
    if limit is None:
        return None
    if limit.relative is not None:
        further = limit.relative - 1
        return -further if RECORDS[key].better == "higher" else further
    return limit.absolute if RECORDS[key].kind == "share" else None


def variant_changes(
    name: str, before: Side, after: Side, question: StageQuestion, margin: float
) -> Iterator[Compared]:
    """Quality and cost at the judged stage, where either run has them or asks for them."""
    sides = (before, after)
    values = [side.summary.metrics["quality"] for side in sides]
    has_objective = any(
        q.min is not None or q.max_drop is not None
        for q in (before.inputs.quality, after.inputs.quality)
    )
    if has_objective or any(value.value is not None for value in values):
        evidence = not_comparable(values[0], values[1], (before.run, after.run))
        if evidence is None:
            assert values[0].value is not None
            scores = (
                question.before.by_question(before.variant.scores),
                question.after.by_question(after.variant.scores),
            )
            evidence = by_scores(values[0].value, *scores)
        yield Compared(
            name,
            None,
            "quality",
            METRICS["quality"],
            values[0],
            values[1],
            evidence,
            margin_of("quality", False, margin, [side.inputs.quality.max_drop for side in sides]),
            "; ".join((*question.barred, *question.scored)) or None,
            "; ".join(question.held) or None,
        )
    if before.inputs.budget or after.inputs.budget:
        yield _cost(name, before, after, question, margin)


def _cost(name: str, before: Side, after: Side, question: StageQuestion, margin: float) -> Compared:
    old, new = (side.summary.metrics["cost_per_request"] for side in (before, after))
    evidence, cause = not_comparable(old, new, (before.run, after.run)), ""
    budgets = before.inputs.budget, after.inputs.budget
    if evidence is None:
        assert old.value is not None and new.value is not None and budgets[0] and budgets[1]
        prices = budgets[0].price, budgets[1].price
        stages = [side.variant.stages[side.inputs.judged_stage] for side in (before, after)]
        if all(map(is_metered, prices)):
            each = [
                prompt_totals(
                    [block.requests for block in stage.blocks], _costs_at(price), failed_too=True
                )
                for stage, price in zip(stages, prices, strict=True)
            ]
            totals = (
                question.before.totals_by_question(each[0]),
                question.after.totals_by_question(each[1]),
            )
            evidence = by_prompts(old.value, new.value, *totals)
        if evidence is None:
            blocks = [
                _block_costs(stage, price) for stage, price in zip(stages, prices, strict=True)
            ]
            evidence = by_blocks(old.value, new.value, blocks[0], blocks[1])
        cause = _cause(old.value, new.value, stages[1], prices)
    return Compared(
        name,
        None,
        "cost_per_request",
        METRICS["cost_per_request"],
        old,
        new,
        evidence,
        margin_of(
            "cost_per_request",
            False,
            margin,
            [budget.max_increase if budget else None for budget in budgets],
        ),
        "; ".join(question.barred) or None,
        "; ".join(question.held) or None,
        cause,
    )


def _costs_at(price: Price) -> Callable[[Requests], Floats]:
    return lambda requests: request_costs(requests, price)


def _block_costs(stage: StageData, price: Price) -> list[float]:
    """Dollars per request of each block, NaN where it has none."""
    if is_metered(price):
        costs = [request_costs(block.requests, price) for block in stage.blocks]
        return [
            float(np.mean(known)) if len(known := each[~np.isnan(each)]) else nan for each in costs
        ]
    return [
        rent(block, price) / block.completed if block.completed else nan for block in stage.blocks
    ]


def _cause(before: float, after: float, stage: StageData, prices: tuple[Price, Price]) -> str:
    """If the prices differ: the parts of the change that prices and usage make."""
    if prices[0] == prices[1]:
        return ""
    unchanged = cost_per_request(stage, prices[0]).value
    if not unchanged or not before:
        return "; the prices differ"
    used, priced = change(unchanged / before - 1), change(after / unchanged - 1)
    return f"; the price changes it by {priced}, what was used by {used}"


def probe_change(
    name: str, probe: str, before: Side, after: Side, question: StageQuestion, margin: float
) -> Compared:
    """A probe that both runs asked."""
    scores = before.variant.probe_scores[probe], after.variant.probe_scores[probe]
    values = _mean_score(scores[0]), _mean_score(scores[1])
    evidence = not_comparable(values[0], values[1], (before.run, after.run))
    if evidence is None:
        assert values[0].value is not None
        contents = question.before.by_question(scores[0]), question.after.by_question(scores[1])
        evidence = by_scores(values[0].value, *contents)
    drops = [
        p.max_drop
        for side in (before, after)
        for p in side.inputs.quality.probes
        if p.name == probe
    ]
    return Compared(
        name,
        None,
        f"probe:{probe}",
        structs.replace(METRICS["quality"], label=probe),
        values[0],
        values[1],
        evidence,
        margin_of("quality", False, margin, drops),
        "; ".join((*question.barred, *question.scored)) or None,
    )


def _mean_score(scores: Scores) -> Estimate:
    if not scores:
        return absent("nothing to score")
    values = np.array(list(scores.values()))
    return estimate(float(np.mean(values)), score_bounds(values, TAIL, TAIL), len(values))
