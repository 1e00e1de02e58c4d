"""Every metric of a stage, each with its 95 % interval or the reason why it is absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, isnan, nan

import numpy as np
from msgspec.structs import replace

from foundation.arrays import Floats
from results.measures.request_limits import no_goodput
from results.measures.shares import ANSWER_SHARES
from results.measures.steady_state import StageData, chunk_times
from results.measures.throughput import NONE_INSIDE, THROUGHPUT, none_ended_inside
from results.measures.token_times import MAY_BE_UNMEASURED, unmeasured
from results.measures.values import (
    PER_CHUNK,
    PER_REQUEST,
    TOKENS,
    Limits,
    block_statistics,
    counted,
    per_request,
    values_in,
)
from results.metrics import QUANTILES, RECORDS, STATISTICS, families
from results.statistics.intervals import (
    TAIL,
    Bounds,
    absent,
    estimate,
    floor_reason,
    log_t_bounds,
    percentile,
    percentiles,
    share_bounds,
    t_bounds,
    t_bounds_of,
    upper_percentile,
)
from results.summary import Estimate

_ADJUSTED = families("failures as infinite")
MOST = 0.5
"""A time that more answers than this share do not have is absent."""


def stage_metrics(stage: StageData, limits: Limits) -> dict[str, Estimate]:
    """Every metric of a stage by its key, pooled over its blocks. `limits`: of goodput."""
    per_block = [block_statistics(block, limits) for block in stage.blocks]
    return _distributions(stage, per_block) | _counted(stage, per_block, limits)


def _distributions(
    stage: StageData, per_block: Sequence[Mapping[str, float]]
) -> dict[str, Estimate]:
    estimates: dict[str, Estimate] = {}
    for family in PER_REQUEST:
        estimates |= _distribution(stage, per_block, family)
    for family in PER_CHUNK:
        estimates |= _chunk_distribution(stage, per_block, family)
    for family in TOKENS:
        values = np.concatenate([values_in(b, family) for b in stage.blocks])
        estimates[f"{family}_mean"] = mean_of(values, [s[f"{family}_mean"] for s in per_block])
        estimates |= {f"{family}_p{q:g}": percentile(values, q) for q in (50.0, 95.0)}
    for family in _ADJUSTED:
        estimates |= _adjusted(stage, family)
    for family, why in _unmeasured(stage).items():
        estimates |= {f"{family}_{statistic}": absent(why) for statistic in STATISTICS}
    return estimates


def _counted(
    stage: StageData, per_block: Sequence[Mapping[str, float]], limits: Limits
) -> dict[str, Estimate]:
    """Rates, shares, and what is averaged over the windows."""
    pooled = counted(stage.blocks, limits)
    estimates: dict[str, Estimate] = {}
    for key, value in pooled.items():
        if key in ANSWER_SHARES:
            estimates[key] = _share(value, stage.succeeded, "succeeded")
        elif RECORDS[key].kind == "share":
            estimates[key] = _share(value, stage.n)
        else:
            most = 1.0 if RECORDS[key].unit == "share" else inf
            estimates[key] = _over_blocks(value, [s[key] for s in per_block], stage.timed, most)
    estimates["sessions_per_s"] = _sessions(stage)
    if none_ended_inside(stage.blocks):
        estimates |= {key: replace(estimates[key], reason=NONE_INSIDE) for key in THROUGHPUT}
    lacking = _unmeasured(stage)
    reasons = [why for family, why in lacking.items() if family in limits]
    if unmet := next(iter(reasons), no_goodput(limits)):
        estimates |= dict.fromkeys(("goodput", "slo_attainment"), absent(unmet))
    return estimates


def _sessions(stage: StageData) -> Estimate:
    if not stage.sessions:
        return absent("every arrival is a single request")
    rates = [
        begun / block.window_s
        for begun, block in zip(stage.begun, stage.blocks, strict=True)
        if block.window_s > 0
    ]
    pooled = sum(stage.begun) / stage.window_s if stage.window_s > 0 else nan
    return _over_blocks(pooled, rates, sum(stage.begun), inf)


def _unmeasured(stage: StageData) -> dict[str, str]:
    """The times that most answers of a stage do not have, and why."""
    steady = [block.steady for block in stage.blocks]
    return {
        name: reason for name in MAY_BE_UNMEASURED if (reason := unmeasured(name, steady, MOST))
    }


def _distribution(
    stage: StageData, per_block: Sequence[Mapping[str, float]], name: str
) -> dict[str, Estimate]:
    values = np.concatenate([values_in(b, name) for b in stage.blocks])
    estimates = {f"{name}_mean": mean_of(values, [s[f"{name}_mean"] for s in per_block])}
    keys = [f"{name}_p{q:g}" for q in QUANTILES]
    return estimates | dict(zip(keys, percentiles(values, QUANTILES), strict=True))


def _chunk_distribution(
    stage: StageData, per_block: Sequence[Mapping[str, float]], name: str
) -> dict[str, Estimate]:
    """Tokens of one answer hang together, so that only blocks show the spread."""
    pooled = stage.by_chunk[name]
    if not pooled.n:
        return {
            f"{name}_{stat}": absent("no successful request has this value") for stat in STATISTICS
        }
    estimates = {}
    for stat, value in zip(STATISTICS, (pooled.mean, *pooled.percentiles), strict=True):
        key = f"{name}_{stat}"
        blocks = [s[key] for s in per_block if not isnan(s[key])]
        if stat == "mean":
            estimates[key] = estimate(value, _around_mean(stage, name, value, blocks), pooled.n)
        elif reason := floor_reason(float(stat[1:]), pooled.n):
            estimates[key] = absent(reason, pooled.n)
        else:
            reason = None if len(blocks) > 1 else "an interval needs at least two blocks"
            bounds = Bounds(-inf, inf) if reason else log_t_bounds(value, blocks, TAIL, TAIL)
            estimates[key] = estimate(value, bounds, pooled.n, reason)
    return estimates


def _around_mean(stage: StageData, name: str, mean: float, blocks: Sequence[float]) -> Bounds:
    """t over the blocks' means; over the times themselves if there is one block."""
    if len(blocks) > 1:
        return t_bounds(mean, blocks, TAIL, TAIL)
    times = chunk_times(stage.blocks, name)
    return (
        t_bounds_of(mean, times.deviation(), len(times), TAIL, TAIL)
        if len(times) > 1
        else Bounds(-inf, inf)
    )


def mean_of(values: Floats, per_block: Sequence[float]) -> Estimate:
    """A mean with t over the blocks; over the values themselves if there is one block."""
    if len(values) == 0:
        return absent("no successful request has this value")
    blocks = [x for x in per_block if not isnan(x)]
    units = blocks if len(blocks) > 1 else values
    mean = float(np.mean(values))
    bounds = t_bounds(mean, units, TAIL, TAIL)
    return estimate(
        mean, Bounds(max(bounds.low, min(0.0, float(values.min()))), bounds.high), len(values)
    )


def _over_blocks(pooled: float, per_block: Sequence[float], n: int, most: float) -> Estimate:
    """A number from 0 to `most`, with t over the blocks."""
    if isnan(pooled):
        return absent("nothing was measured in the steady window", n)
    blocks = [x for x in per_block if not isnan(x)]
    reason = None if len(blocks) > 1 else "an interval needs at least two blocks"
    bounds = t_bounds(pooled, blocks, TAIL, TAIL)
    return estimate(
        pooled,
        bounds if reason else Bounds(max(bounds.low, 0.0), min(bounds.high, most)),
        n,
        reason,
    )


def _share(share: float, n: int, of: str = "was scheduled inside the window") -> Estimate:
    if n == 0:
        return absent(f"no request {of}")
    return estimate(share, share_bounds(round(share * n), n, TAIL, TAIL), n)


def _adjusted(stage: StageData, name: str) -> dict[str, Estimate]:
    requests = [b.steady for b in stage.blocks]
    values = np.concatenate(
        [np.where(r.ok, per_request(r, name.removeprefix("adjusted_")), inf) for r in requests]
    )
    values = np.where(np.isnan(values), inf, values)
    estimates = {}
    for q in QUANTILES:
        key = f"{name}_p{q:g}"
        if floor_reason(q, len(values)) or upper_percentile(values, q) < inf:
            estimates[key] = percentile(values, q)
        else:
            estimates[key] = absent(
                f"infinite: more than {100 - q:g} % of the requests failed", len(values)
            )
    return estimates
