"""The values behind a time of `slo`: of all requests, a failed one as infinite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from foundation.arrays import Floats
from foundation.run.requests import Requests
from results.measures.steady_state import StageData
from results.measures.token_times import at_once, unmeasured
from results.measures.values import PER_REQUEST, per_request, values_of
from results.statistics.intervals import (
    TAIL,
    absent,
    estimate,
    floor_reason,
    log_t_bounds,
    order_statistic_bounds,
    t_bounds,
    upper_percentile,
)
from results.summary import Estimate

FAILED_SHARE = 0.01
"""A mean is of the requests that succeeded.

It stands for all of them while no more than this share failed.
"""
UNMEASURED_SHARE = 0.05
"""Times between tokens are judged while at most this share of the answers lacks them."""
FEWEST = 60
"""No mean of fewer requests is judged: they miss a kind that is one in twenty in 5 % of runs."""

LEAST_MS = 1e-3
"""A time in or before a queue counts as at least a microsecond: logarithms know no zero, and an
idle server's queue holds nobody.
"""

_ANSWERS = ("latency", "service_latency", "ttft", "service_ttft")  # every whole answer has these


@dataclass(frozen=True)
class JudgedValues:
    """A metric of a stage for an objective: its value, and the values of each block behind it.

    Values of a percentile hold infinity for each request that failed, or came back empty; of a mean
    they leave them out. Blocks without a value are left out.
    """

    value: Estimate
    blocks: Sequence[Floats] = ()


def judged_values(metric: str, stage: StageData) -> JudgedValues:
    """The values of a time's mean or percentile ("latency_p95"), or the reason why it is absent."""
    name, _, statistic = metric.rpartition("_")
    steady = [block.steady for block in stage.blocks]
    if reason := unmeasured(name, steady, UNMEASURED_SHARE):
        return JudgedValues(absent(reason))
    if statistic == "mean":
        return _mean(name, steady)
    return _percentile(name, float(statistic[1:]), steady)


def paired_values(
    metric: str, stages: tuple[StageData, StageData]
) -> tuple[JudgedValues, JudgedValues]:
    """Of two stages whose blocks are pairs, over the pairs in which both have a value."""
    name = metric.rpartition("_")[0]
    both = [
        p
        for p in zip(*(s.blocks for s in stages), strict=True)
        if all(len(values_of(b.steady, name)) for b in p)
    ]
    ours, theirs = (
        judged_values(metric, replace(s, blocks=[p[i] for p in both])) for i, s in enumerate(stages)
    )
    return ours, theirs


def too_many_failed(stage: StageData) -> str | None:
    """Why a mean over a stage's requests does not stand for all of them; None where it does."""
    return _too_many(stage.n - stage.succeeded, stage.n)


def _too_many(missing: int, n: int) -> str | None:
    if missing <= FAILED_SHARE * n:
        return None
    return (
        f"{missing:,} of {n:,} requests failed, more than the {FAILED_SHARE * 100:g} % that a "
        "mean over the others may leave out"
    )


def _mean(name: str, steady: Sequence[Requests]) -> JudgedValues:
    missing, n = sum(int(_missing(name, r).sum()) for r in steady), sum(map(len, steady))
    blocks = [values for r in steady if len(values := values_of(r, name))]
    if reason := _too_many(missing, n) or _too_few(len(np.concatenate([np.empty(0), *blocks]))):
        return JudgedValues(absent(reason, n))
    pooled, means = np.concatenate(blocks), [float(np.mean(block)) for block in blocks]
    value = float(np.mean(pooled))
    return JudgedValues(estimate(value, t_bounds(value, means, TAIL, TAIL), len(pooled)), blocks)


def _too_few(n: int) -> str | None:
    if n == 0:
        return "no successful request has this value"
    return f"a mean needs at least {FEWEST} requests, there are {n}" if n < FEWEST else None


def _percentile(name: str, q: float, steady: Sequence[Requests]) -> JudgedValues:
    blocks = [values for r in steady if len(values := _with_failures(name, r))]
    pooled = np.sort(np.concatenate([np.empty(0), *blocks]))
    n, missing = len(pooled), sum(int(_missing(name, r).sum()) for r in steady)
    known = int(np.sum(pooled < inf))
    if reason := floor_reason(q, n) if known else "no successful request has this value":
        return JudgedValues(absent(reason, n))
    if (value := upper_percentile(pooled, q)) == inf:
        requests = sum(map(len, steady))
        return JudgedValues(
            absent(
                f"{missing:,} of {requests:,} requests failed, and p{q:g} leaves out less than "
                f"{100 - q:g} %",
                n,
            )
        )
    if name == "itl" and value == 0:
        together = float(np.mean(pooled == 0))
        return JudgedValues(
            absent(
                f"{together * 100:.0f} % of the tokens came in one chunk with the token before, "
                "at no time of their own",
                n,
            )
        )
    bounds = (
        order_statistic_bounds(pooled, q, TAIL, TAIL)
        if name in PER_REQUEST
        else log_t_bounds(value, [upper_percentile(block, q) for block in blocks], TAIL, TAIL)
    )
    return JudgedValues(estimate(value, bounds, n), blocks)


def _missing(name: str, requests: Requests) -> NDArray[np.bool_]:
    """Requests (n,) that lack the value: failed ones, and empty ones if every answer has it."""
    return ~requests.ok | np.isnan(requests.last) if name in _ANSWERS else ~requests.ok


def _with_failures(name: str, requests: Requests) -> Floats:
    """The values in the order of the requests, and infinity for each that is missing.

    Of tokens, the failed have as many as an answer has on average; they come last.
    """
    missing = _missing(name, requests)
    if name not in PER_REQUEST:
        values = values_of(requests, name)
        each = len(values) / max(int(requests.ok.sum()), 1)
        return np.append(values, np.full(round(int(missing.sum()) * each), inf))
    values = np.where(missing, inf, per_request(requests, name))
    if name in ("wait", "queue"):
        values = np.maximum(values, LEAST_MS)
    if name == "tpot":
        values[at_once(requests) & ~missing] = np.nan
    return np.asarray(values[~np.isnan(values)])
