"""What a variant costs: metered by tokens, or self-hosted by the hour of an accelerator.

Metered: `input_tokens x input_price + output_tokens x output_price` of each request whose tokens
are known, failed ones too where the server reported them; a side without a price is free.
Self-hosted: `replicas x accelerators x price_per_hour / (3600 x requests/s held)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt

import numpy as np

from foundation.arrays import Floats
from foundation.run.requests import Requests
from results.config import BudgetConfig, Price
from results.measures.steady_state import StageBlock, StageData
from results.statistics.block_means import block_mean_bounds
from results.statistics.intervals import (
    TAIL,
    UNBOUNDED,
    Bounds,
    absent,
    count_bounds,
    estimate,
    exp_or_inf,
    log_t_bounds,
    ratio_bounds,
    t_bounds,
)
from results.statistics.prompt_totals import (
    PromptTotals,
    prompt_mean,
    prompt_mean_bounds,
    prompt_ratio_bounds,
    prompt_totals,
    totals_of_both,
)
from results.summary import Estimate

# Of the arrivals of a window, so many end in it but for chance, else its ends are no rate.
ENDED_SHARE = 0.9
FEWEST_PROMPTS = 60
"""Fewer prompts miss a kind of answer that is one in twenty in more than 5 % of runs."""


def is_metered(price: Price) -> bool:
    """Whether requests are priced by their tokens.

    An hourly price beside token prices is the capacity plan's.
    """
    return price.input_price is not None or price.output_price is not None


def request_costs(requests: Requests, price: Price) -> Floats:
    """Dollars per request (n,), metered; NaN where its tokens are not known."""
    priced = (
        (price.input_price, requests.input_tokens),
        (price.output_price, requests.output_tokens),
    )
    return np.asarray(
        sum(
            (tokens * each for each, tokens in priced if each is not None),
            start=np.zeros(len(requests)),
        )
    )


def cost_metrics(
    stage: StageData, quality: Estimate, budget: BudgetConfig | None
) -> dict[str, Estimate]:
    """Every cost of a variant at one stage."""
    if budget is None:
        return dict.fromkeys(COSTS, absent("the experiment names no budget with prices"))
    each = cost_per_request(stage, budget.price)
    months = budget.requests_per_month
    return {
        "cost_per_request": each,
        "cost_per_1000": _times(each, 1000),
        "cost_per_success": _per_success(stage, budget.price, each),
        "cost_per_correct": over_quality(each, quality),
        "cost_per_million_output_tokens": _per_million_output_tokens(stage, budget.price, each),
        "cost_per_month": _times(each, months)
        if months
        else absent("the budget names no requests_per_month"),
    }


COSTS = (
    "cost_per_request",
    "cost_per_1000",
    "cost_per_success",
    "cost_per_correct",
    "cost_per_million_output_tokens",
    "cost_per_month",
)


def cost_per_request(stage: StageData, price: Price) -> Estimate:
    """Dollars per request, with its interval."""
    if reason := no_cost_reason(stage, price):
        return absent(reason)
    value, n = _cost(stage, price)
    return estimate(value, cost_bounds(stage, price, TAIL, TAIL), n)


def no_cost_reason(stage: StageData, price: Price) -> str | None:
    """Why the stage has no cost, None where it has one."""
    if is_metered(price):
        return (
            None
            if any(len(c) for c in _known_costs(stage, price))
            else "no request has its tokens counted"
        )
    if stage.succeeded == 0:
        return "no request succeeded, so no rate was held"
    if stage.held.value is not True:
        return (
            f"no load was shown to be held ({stage.held.reason}), and at saturation a cost per "
            "request means nothing"
        )
    ended = sum(block.ended for block in stage.blocks)
    if ended < ENDED_SHARE * stage.timed - 2 * sqrt(stage.timed * (1 - ENDED_SHARE)):
        return (
            f"of {stage.timed} requests that arrived in the windows {ended} ended there: too "
            "short to show the rate that is held"
        )
    return None


def _cost(stage: StageData, price: Price) -> tuple[float, int]:
    if is_metered(price):
        costs = np.concatenate(_known_costs(stage, price))
        return float(np.mean(costs)), len(costs)
    completed = sum(block.completed for block in stage.blocks)
    return rent_of_stage(stage, price) / completed, completed


def rent(block: StageBlock, price: Price) -> float:
    """What the steady part of a block costs by the hour: every accelerator of every replica."""
    assert price.accelerator_hour is not None
    accelerators = price.accelerators_of(block.accelerators)
    return block.replica_s * accelerators * price.accelerator_hour / 3600


def rent_of_stage(stage: StageData, price: Price) -> float:
    """What the steady parts of a stage cost by the hour."""
    return sum(rent(block, price) for block in stage.blocks)


def cost_bounds(stage: StageData, price: Price, low_tail: float, high_tail: float) -> Bounds:
    """Bounds of the dollars per request; the stage must have a cost (`no_cost_reason`).

    Metered: the wider of those from blocks and those from prompts, for answers to one prompt
    resemble one another. Self-hosted: t over the logarithms of the blocks' rates; of one block, the
    bounds of a Poisson count.
    """
    value, _ = _cost(stage, price)
    if is_metered(price):
        bounds = Bounds(value, value)
        costs, totals = (
            [c for c in _known_costs(stage, price) if len(c)],
            _totals(stage.blocks, price),
        )
        if len(costs) > 1:
            bounds = bounds.widest(block_mean_bounds(costs, low_tail, high_tail))
        if len(totals) > 1:
            bounds = bounds.widest(prompt_mean_bounds(totals, low_tail, high_tail))
        return bounds if len(costs) > 1 or len(totals) > 1 else UNBOUNDED
    if len(stage.blocks) > 1:
        per_dollar = [b.completed / rent(b, price) for b in stage.blocks if b.window_s > 0]
        bounds = log_t_bounds(1 / value, per_dollar, high_tail, low_tail)
        return Bounds(1 / bounds.high, 1 / bounds.low) if bounds.low > 0 else UNBOUNDED
    # One block has no spread; arrivals are at their most irregular when they are Poisson.
    completed = stage.blocks[0].completed
    count = count_bounds(completed, high_tail, low_tail)
    return Bounds(value * completed / count.high, value * completed / count.low)


def _totals(blocks: Sequence[StageBlock], price: Price) -> PromptTotals:
    return prompt_totals(
        [block.requests for block in blocks], lambda r: request_costs(r, price), failed_too=True
    )


def paired_costs(
    pairs: Sequence[tuple[StageBlock, StageBlock]], price: Price
) -> tuple[PromptTotals, PromptTotals]:
    """Dollars by prompt of each side, over requests with known tokens, failed ones included."""
    ours, theirs = ([pair[side].requests for pair in pairs] for side in (0, 1))
    return totals_of_both(ours, theirs, lambda r: request_costs(r, price), failed_too=True)


@dataclass(frozen=True)
class CostRatio:
    """A variant's cost per request over the baseline's, in paired blocks.

    Metered it comes from `n` prompts, self-hosted from `n` pairs.
    """

    pairs: Sequence[tuple[StageBlock, StageBlock]]
    price: Price
    value: float
    n: int

    def bounds(self, low_tail: float, high_tail: float) -> Bounds:
        """Metered: prompt by prompt. Self-hosted: t over the log-ratios of the pairs' rates."""
        if is_metered(self.price):
            return prompt_ratio_bounds(*paired_costs(self.pairs, self.price), low_tail, high_tail)
        rates = [
            (a.completed / rent(a, self.price), b.completed / rent(b, self.price))
            for a, b in self.pairs
        ]
        if min(map(min, rates)) <= 0:
            return UNBOUNDED
        changes = np.array([log(theirs / ours) for ours, theirs in rates])
        bounds = t_bounds(log(self.value), changes, low_tail, high_tail)
        bounds = bounds.widest(t_bounds(float(np.mean(changes)), changes, low_tail, high_tail))
        return Bounds(exp_or_inf(bounds.low), exp_or_inf(bounds.high))


def cost_ratio(pairs: Sequence[tuple[StageBlock, StageBlock]], price: Price) -> CostRatio | None:
    """None where either side has no cost in the paired blocks, or the baseline's is zero."""
    if is_metered(price):
        ours, theirs = paired_costs(pairs, price)
        if not ours or not theirs:
            return None
        prompts = sorted(ours.keys() | theirs.keys())
        values = [prompt_mean(totals, prompts).value for totals in (ours, theirs)]
        return (
            CostRatio(pairs, price, values[0] / values[1], len(prompts)) if values[1] > 0 else None
        )
    pairs = [pair for pair in pairs if pair[0].window_s > 0 and pair[1].window_s > 0]
    completed = [sum(pair[side].completed for pair in pairs) for side in (0, 1)]
    if not all(completed):
        return None
    paid = [sum(rent(pair[side], price) for pair in pairs) for side in (0, 1)]
    return CostRatio(pairs, price, paid[0] / completed[0] / (paid[1] / completed[1]), len(pairs))


def _known_costs(stage: StageData, price: Price) -> Sequence[Floats]:
    costs = [request_costs(block.requests, price) for block in stage.blocks]
    return [c[~np.isnan(c)] for c in costs]


def _times(cost: Estimate, factor: float) -> Estimate:
    scaled = [None if x is None else x * factor for x in (cost.value, cost.low, cost.high)]
    return Estimate(value=scaled[0], low=scaled[1], high=scaled[2], n=cost.n, reason=cost.reason)


def _per_success(stage: StageData, price: Price, each: Estimate) -> Estimate:
    """The cost of all tries per success: hours are per success already, failed tokens are added."""
    if each.value is None or not is_metered(price):
        return each
    if stage.succeeded == 0:
        return absent("no request succeeded")
    return _times(each, sum(len(costs) for costs in _known_costs(stage, price)) / stage.succeeded)


def over_quality(cost: Estimate, quality: Estimate) -> Estimate:
    """Cost over quality. The interval joins the worst ends of both, so it is wider than 95 %."""
    if cost.value is None:
        return cost
    if not quality.value:
        return absent(quality.reason or "no answer was correct")
    low = cost.low / quality.high if cost.low is not None and quality.high else None
    high = cost.high / quality.low if cost.high is not None and quality.low else None
    return Estimate(value=cost.value / quality.value, low=low, high=high, n=cost.n)


def _per_million_output_tokens(stage: StageData, price: Price, each: Estimate) -> Estimate:
    if each.value is None:
        return each
    if is_metered(price):
        tokens = np.concatenate([b.requests.output_tokens for b in stage.blocks])
        costs = np.concatenate([request_costs(b.requests, price) for b in stage.blocks])
        known = ~np.isnan(costs) & ~np.isnan(tokens)
        tokens, costs = tokens[known], costs[known]
        if tokens.sum() == 0:
            return absent("no output tokens")
        return _times(
            estimate(
                float(costs.sum() / tokens.sum()),
                ratio_bounds(costs, tokens, TAIL, TAIL),
                len(tokens),
            ),
            1e6,
        )
    tokens_out = sum(block.output_tokens for block in stage.blocks)
    if not tokens_out > 0:
        return absent("no output tokens")
    value = rent_of_stage(stage, price) / tokens_out
    blocks = [b.output_tokens / rent(b, price) for b in stage.blocks if b.window_s > 0]
    rate = log_t_bounds(1 / value, blocks, TAIL, TAIL) if len(blocks) > 1 else UNBOUNDED
    bounds = Bounds(1 / rate.high, 1 / rate.low) if rate.low > 0 else UNBOUNDED
    return _times(estimate(value, bounds, each.n), 1e6)
