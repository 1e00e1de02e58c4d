"""What a variant costs: metered by tokens, or self-hosted by the hour of an accelerator.

Metered: `input_tokens x input_price + output_tokens x output_price` of each request whose tokens are known, failed ones too where
the server reported them; a side without a price is free.
Self-hosted: `accelerators x price_per_hour / (3600 x requests/s held)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, sqrt

import numpy as np

from results.config import BudgetConfig, Price
from results.requests import Floats, Requests
from results.stats import TAIL, Bounds, absent, count_bounds, estimate, log_t_bounds, mean_bounds, ratio_bounds
from results.steady import StageData
from results.summary import Estimate

# Of the arrivals of a window, so many end in it but for chance, else its ends are no rate.
ENDED_SHARE = 0.9


def is_metered(price: Price) -> bool:
    """Whether requests are priced by their tokens. An hourly price beside token prices is the capacity plan's."""
    return price.input_price is not None or price.output_price is not None


def request_costs(requests: Requests, price: Price) -> Floats:
    """Dollars per request (n,), metered; NaN where its tokens are not known."""
    priced = ((price.input_price, requests.input_tokens), (price.output_price, requests.output_tokens))
    return np.asarray(sum((tokens * each for each, tokens in priced if each is not None), start=np.zeros(len(requests))))


def cost_metrics(stage: StageData, quality: Estimate, budget: BudgetConfig | None) -> dict[str, Estimate]:
    """Every cost of a variant at one stage."""
    if budget is None:
        return dict.fromkeys(COSTS, absent("the experiment names no budget with prices"))
    each = cost_per_request(stage, budget.price)
    months = budget.requests_per_month
    return {
        "cost_per_request": each,
        "cost_per_1000": _times(each, 1000),
        "cost_per_success": _per_success(stage, budget.price, each),
        "cost_per_correct": _over_quality(each, quality),
        "cost_per_million_output_tokens": _per_million_output_tokens(stage, budget.price, each),
        "cost_per_month": _times(each, months) if months else absent("the budget names no requests_per_month"),
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
    return estimate(*_cost(stage, price, TAIL, TAIL))


def cost_bounds(stage: StageData, price: Price, low_tail: float, high_tail: float) -> Bounds:
    """Bounds of the dollars per request; the stage must have a cost (`no_cost_reason`)."""
    return _cost(stage, price, low_tail, high_tail)[1]


def no_cost_reason(stage: StageData, price: Price) -> str | None:
    """Why the stage has no cost, None where it has one."""
    if is_metered(price):
        return None if any(len(c) for c in _known_costs(stage, price)) else "no request has its tokens counted"
    if sum(block.completed for block in stage.blocks) == 0:
        return "no request succeeded, so no rate was held"
    if stage.held.value is not True:
        return f"no load was shown to be held ({stage.held.reason}), and at saturation a cost per request means nothing"
    ended = sum(block.ended for block in stage.blocks)
    if ended < ENDED_SHARE * stage.timed - 2 * sqrt(stage.timed * (1 - ENDED_SHARE)):
        return (
            f"of {stage.timed} requests that arrived in the windows {ended} ended there: too short to show the rate that is held"
        )
    return None


def _cost(stage: StageData, price: Price, low_tail: float, high_tail: float) -> tuple[float, Bounds, int]:
    if is_metered(price):
        costs = [c for c in _known_costs(stage, price) if len(c)]
        pooled = np.concatenate(costs)
        return float(np.mean(pooled)), mean_bounds(costs, low_tail, high_tail), len(pooled)
    assert price.accelerator_hour is not None
    hourly = price.accelerators * price.accelerator_hour / 3600
    completed, window = sum(b.completed for b in stage.blocks), stage.window_s
    value = hourly * window / completed
    blocks = [hourly * b.window_s / b.completed for b in stage.blocks if b.completed]
    if len(blocks) > 1:
        return value, log_t_bounds(value, blocks, low_tail, high_tail), completed
    # One block has no spread; arrivals are at their most irregular when they are Poisson.
    count = count_bounds(completed, high_tail, low_tail)
    return value, Bounds(value * completed / count.high, value * completed / count.low), completed


def _known_costs(stage: StageData, price: Price) -> Sequence[Floats]:
    costs = [request_costs(block.requests, price) for block in stage.blocks]
    return [c[~np.isnan(c)] for c in costs]


def _times(cost: Estimate, factor: float) -> Estimate:
    scaled = [None if x is None else x * factor for x in (cost.value, cost.low, cost.high)]
    return Estimate(value=scaled[0], low=scaled[1], high=scaled[2], n=cost.n, reason=cost.reason)


def _per_success(stage: StageData, price: Price, each: Estimate) -> Estimate:
    """Self-hosted hours are spread over successes to begin with; metered, the failed tries' tokens are added to them."""
    if each.value is None or not is_metered(price):
        return each
    if stage.succeeded == 0:
        return absent("no request succeeded")
    return _times(each, sum(len(costs) for costs in _known_costs(stage, price)) / stage.succeeded)


def _over_quality(cost: Estimate, quality: Estimate) -> Estimate:
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
        return _times(estimate(float(costs.sum() / tokens.sum()), ratio_bounds(costs, tokens, TAIL, TAIL), len(tokens)), 1e6)
    assert price.accelerator_hour is not None
    tokens_out = sum(b.output_tokens for b in stage.blocks)
    if not tokens_out > 0:
        return absent("no output tokens")
    hourly = price.accelerators * price.accelerator_hour / 3600
    blocks = [hourly * b.window_s / b.output_tokens for b in stage.blocks if b.output_tokens > 0]
    value = hourly * stage.window_s / tokens_out
    bounds = log_t_bounds(value, blocks, TAIL, TAIL) if len(blocks) > 1 else Bounds(-inf, inf)
    return _times(estimate(value, bounds, each.n), 1e6)
