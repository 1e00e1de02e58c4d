"""What the experiment asks of a variant, and the bounds that each objective is decided on.

Two wrong decisions are possible, and each is kept at 5 %. SHIP needs every objective shown to hold, so each may be tested at 5 %.
DON'T SHIP needs only one shown to fail, so k objectives share the 5 % (Bonferroni): each is tested at 5 % / k. A run that is
judged again and again as it grows shares the 5 % among the looks as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite, nan
from typing import Literal

import numpy as np

from results.block_percentiles import percentile_bounds
from results.compare import Pairing, prompt_means
from results.config import SHARE_METRICS, BudgetConfig, Limit, Price
from results.cost import cost_bounds, cost_per_request, is_metered, request_costs
from results.inputs import RunInputs
from results.metrics import ANSWER_SHARES, METRICS, PER_REQUEST, block_statistics, values_in
from results.report.format import change, dollars, limit_text, percent
from results.requests import Requests
from results.stats import (
    TAIL,
    Bounds,
    absent,
    estimate,
    mean_bounds,
    paired_log_bounds,
    paired_score_bounds,
    ratio_bounds,
    score_bounds,
    share_bounds,
)
from results.steady import StageData
from results.summary import Estimate, Judged, Outcome

ALPHA = 0.05


@dataclass(frozen=True)
class Asked:
    """One objective. `limit` is in the metric's unit, or a factor of the baseline's value where `relative`."""

    key: str
    kind: Literal["slo", "quality", "budget"]
    metric: str
    label: str
    unit: str
    better: Literal["lower", "higher"]
    limit: float
    text: str
    relative: bool = False


def asked_of(inputs: RunInputs, variant: str) -> list[Asked]:
    """Every objective of a variant. What is relative to the baseline is not asked of the baseline itself."""
    found = [_slo(metric, limit) for metric, limit in inputs.slo.limits.items()]
    quality, budget = inputs.quality, inputs.budget
    if quality.min is not None:
        found.append(
            Asked(
                "quality",
                "quality",
                "quality",
                "quality",
                "share",
                "higher",
                quality.min,
                f"at least {limit_text(quality.min, percent)}",
            )
        )
    drops = [("quality_change", "quality", quality.max_drop)]
    drops += [(f"probe:{probe.name}", probe.name, probe.max_drop) for probe in quality.probes]
    for key, name, drop in drops:
        if drop is not None:
            label, text = (
                f"{name} against the baseline",
                "not under the baseline"
                if drop == 0
                else f"no more than {drop * 100:g} percentage point{'' if drop == 0.01 else 's'} under the baseline",
            )
            found.append(Asked(key, "quality", key, label, "share", "higher", -drop, text, relative=True))
    if budget and budget.per_month is not None:
        text = f"{limit_text(budget.per_month, dollars)} a month"
        found.append(Asked("cost_per_month", "budget", "cost_per_month", "cost per month", "$", "lower", budget.per_month, text))
    if budget and budget.max_increase is not None:
        text = f"at most {limit_text(budget.max_increase, change)}"
        found.append(
            Asked(
                "cost_increase", "budget", "cost_increase", "cost per request against the baseline", "share", "lower",
                budget.max_increase, text, relative=True,
            )
        )  # fmt: skip
    return [asked for asked in found if not (asked.relative and variant == inputs.baseline)]


def _slo(metric: str, limit: Limit) -> Asked:
    definition = METRICS[metric]
    value = limit.absolute if limit.absolute is not None else limit.relative
    assert value is not None
    return Asked(
        metric, "slo", metric, definition.label, definition.unit, "lower", value, limit.text, relative=limit.absolute is None
    )


@dataclass(frozen=True)
class Tails:
    """The probabilities with which the pessimistic and the optimistic bound may be wrong."""

    pessimistic: float
    optimistic: float

    @classmethod
    def of(cls, objectives: int, looks: int = 1) -> Tails:
        """Alpha spent evenly over the looks: a union bound, which holds however the looks depend on one another."""
        return cls(ALPHA / looks, ALPHA / looks / max(objectives, 1))


def fixed_limit(asked: Asked) -> float:
    """The limit in the metric's unit where it does not hang on the baseline's value; NaN where it does."""
    return nan if asked.kind == "slo" and asked.relative else asked.limit


def judge_slo(
    asked: Asked, stage: StageData, value: Estimate, base: Mapping[str, Estimate], pairing: Pairing | None, tails: Tails
) -> Judged:
    """An SLO at one stage. `base` and `pairing`: the baseline's metrics and the paired blocks there, for a relative limit."""
    base_value = base[asked.metric].value if asked.metric in base else None
    limit = asked.limit * base_value if asked.relative and base_value is not None else fixed_limit(asked)
    if value.value is None:
        return undecided(value, limit, value.reason or "not measured")
    if reason := _too_many_failures(asked.metric, stage, limit):
        return undecided(value, limit, reason)
    low, high = tails.optimistic, tails.pessimistic
    if not asked.relative:
        return _judged(asked, value, limit, _slo_bounds(asked.metric, stage, low, high), len(stage.blocks))
    if base_value is None or pairing is None:
        return undecided(value, limit, "the limit is relative to the baseline, which has no value at this load")
    pairs = [(block_statistics(a, {})[asked.metric], block_statistics(b, {})[asked.metric]) for a, b in pairing.blocks]
    pairs = [(ours, theirs) for ours, theirs in pairs if ours > 0 and theirs > 0]
    if len(pairs) < 2:
        return undecided(
            value, limit, "a limit relative to the baseline needs two pairs of blocks in which neither value is zero"
        )
    ratio = paired_log_bounds([p[0] for p in pairs], [p[1] for p in pairs], value.value / base_value, low, high)
    return _judged(asked, value, limit, Bounds(ratio.low * base_value, ratio.high * base_value), len(pairs))


def _slo_bounds(metric: str, stage: StageData, low: float, high: float) -> Bounds:
    if metric in SHARE_METRICS:
        return share_bounds(*share_counts(metric, stage), low, high)
    name, _, statistic = metric.rpartition("_")
    blocks = [values for block in stage.blocks if len(values := values_in(block, name))]
    if len(blocks) == 1 and name not in PER_REQUEST:
        return Bounds(-inf, inf)  # tokens of one answer hang together: only other blocks tell the spread
    if statistic == "mean":
        return mean_bounds(blocks, low, high)
    return percentile_bounds(blocks, float(statistic[1:]), low, high)


def share_counts(metric: str, stage: StageData) -> tuple[int, int]:
    """How many requests count against a share, and of how many."""
    counts = [counts_of(metric, block.requests) for block in stage.blocks]
    return sum(count for count, _ in counts), sum(n for _, n in counts)


def counts_of(metric: str, requests: Requests) -> tuple[int, int]:
    """The same of some requests."""
    if metric == "error_rate":
        return int((~requests.ok).sum()), len(requests)
    return int(ANSWER_SHARES[metric](requests).sum()), int(requests.ok.sum())


def _too_many_failures(metric: str, stage: StageData, limit: float) -> str | None:
    """A percentile over successes tells nothing once failures fill the tail that it leaves out, a share of answers nothing once
    more failed than may be so."""
    _, _, statistic = metric.rpartition("_p")
    failed = stage.n - stage.succeeded
    if metric in ANSWER_SHARES and failed > limit * stage.n:
        return f"{failed} of {stage.n} requests failed, more than the limit allows of the answers"
    if not statistic.replace(".", "").isdigit() or failed <= stage.n * (1 - float(statistic) / 100):
        return None
    return f"{failed} of {stage.n} requests failed, more than the {100 - float(statistic):g} % that p{statistic} leaves out"


def judge_quality(asked: Asked, value: Estimate, scores: Mapping[str, float], tails: Tails) -> Judged:
    """A floor under the mean score of the prompts."""
    if value.value is None:
        return undecided(value, asked.limit, value.reason or "not measured")
    bounds = score_bounds(np.array(list(scores.values())), tails.pessimistic, tails.optimistic)
    return _judged(asked, value, asked.limit, bounds, len(scores))


def judge_change(asked: Asked, change: Estimate, ours: Mapping[str, float], theirs: Mapping[str, float], tails: Tails) -> Judged:
    """A floor under the change of the score against the baseline, prompt by prompt."""
    if change.value is None:
        return undecided(change, asked.limit, change.reason or "not measured")
    differences = np.array([ours[prompt] - theirs[prompt] for prompt in sorted(ours.keys() & theirs.keys())])
    return _judged(
        asked, change, asked.limit, paired_score_bounds(differences, tails.pessimistic, tails.optimistic), len(differences)
    )


def judge_month(asked: Asked, value: Estimate, stage: StageData, budget: BudgetConfig, tails: Tails) -> Judged:
    """The cost of a month's requests."""
    if value.value is None or budget.requests_per_month is None:
        return undecided(value, asked.limit, value.reason or "not measured")
    each = cost_bounds(stage, budget.price, tails.optimistic, tails.pessimistic)
    months = budget.requests_per_month
    return _judged(asked, value, asked.limit, Bounds(each.low * months, each.high * months), len(stage.blocks))


def judge_increase(asked: Asked, stage: StageData, base: StageData, pairing: Pairing, price: Price, tails: Tails) -> Judged:
    """The cost per request over the baseline's, less one: metered by prompt, self-hosted by blocks."""
    ours, theirs = cost_per_request(stage, price), cost_per_request(base, price)
    if ours.value is None or not theirs.value:
        reason = ours.reason or theirs.reason or "the baseline costs nothing"
        return undecided(absent(reason), asked.limit, reason)
    ratio = ours.value / theirs.value
    low, high = tails.optimistic, tails.pessimistic
    if is_metered(price):
        both = [
            prompt_means([pair[side].requests for pair in pairing.blocks], lambda r: request_costs(r, price)) for side in (0, 1)
        ]
        common = sorted(both[0].keys() & both[1].keys())
        costs = tuple(np.array([side[prompt] for prompt in common]) for side in both)
        n, bounds, shown = len(common), ratio_bounds(costs[0], costs[1], low, high), ratio_bounds(costs[0], costs[1], TAIL, TAIL)
    else:
        rates = [(a.completed / a.window_s, b.completed / b.window_s) for a, b in pairing.blocks if a.completed and b.completed]
        n, slower, faster = len(rates), [b for _, b in rates], [a for a, _ in rates]
        bounds, shown = (paired_log_bounds(slower, faster, ratio, *ends) for ends in ((low, high), (TAIL, TAIL)))
    value = estimate(ratio - 1, Bounds(shown.low - 1, shown.high - 1), n)
    return _judged(asked, value, asked.limit, Bounds(bounds.low - 1, bounds.high - 1), len(pairing.blocks))


def _judged(asked: Asked, value: Estimate, limit: float, bounds: Bounds, blocks: int) -> Judged:
    low, high = (x if isfinite(x) else None for x in (bounds.low, bounds.high))
    pessimistic, optimistic = (high, low) if asked.better == "lower" else (low, high)
    reason = _unbounded(blocks) if low is None and high is None else None
    return Judged(value=value, limit=limit, pessimistic=pessimistic, optimistic=optimistic, reason=reason)


def _unbounded(blocks: int) -> str:
    if blocks < 2:
        return "one block tells nothing of the spread between blocks; run at least two"
    return "some blocks have a value of zero, which has no logarithm, so nothing tells how far blocks spread"


def undecided(value: Estimate, limit: float, reason: str) -> Judged:
    """Nothing to decide on, and why."""
    return Judged(value=value, limit=limit if isfinite(limit) else None, reason=reason)


def outcome_of(asked: Asked, judged: Judged) -> Outcome:
    """Held against the limit: the pessimistic bound must keep it to hold, the optimistic one must break it to fail.

    A bound is never enough where the value itself lies on the other side.
    """
    value, limit = judged.value.value, judged.limit
    if judged.reason is not None or limit is None or value is None:
        return "unsettled"
    sign = 1 if asked.better == "lower" else -1

    def keeps(number: float) -> bool:
        return sign * number <= sign * limit

    if judged.pessimistic is not None and keeps(judged.pessimistic) and keeps(value):
        return "holds"
    if judged.optimistic is not None and not keeps(judged.optimistic) and not keeps(value):
        return "fails"
    return "unsettled"
