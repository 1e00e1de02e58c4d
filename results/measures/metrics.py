"""What every number is: one definition for the code, the JSON outputs, the report and the docs.

`METRICS` says what a key means; `block_statistics` computes all of a block; `stage_metrics` all of a stage, with intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf, isnan, nan

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from foundation.arrays import Floats
from foundation.run.requests import Requests
from results.measures.prefix_cache import CACHE
from results.measures.steady_state import Block, StageData, chunk_times
from results.measures.throughput import NONE_INSIDE, THROUGHPUT, none_ended_inside, throughput
from results.measures.token_times import unmeasured
from results.statistics.intervals import (
    QUANTILES,
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
from results.summary import Estimate, Metric

STATISTICS = ("mean", *(f"p{q:g}" for q in QUANTILES))

# One value a request.
PER_REQUEST: dict[str, tuple[str, str, Callable[[Requests], Floats]]] = {
    "latency": ("latency", "last chunk - scheduled time", lambda r: r.latency),
    "service_latency": ("service latency", "last chunk - sent", lambda r: r.service_latency),
    "ttft": ("TTFT", "first chunk - scheduled time", lambda r: r.ttft),
    "service_ttft": ("service TTFT", "first chunk - sent", lambda r: r.service_ttft),
    "tpot": (
        "TPOT",
        "(last chunk - first chunk) / (output tokens - 1), of answers with two tokens or more",
        lambda r: r.tpot,
    ),
    "slip": ("schedule slip", "sent - scheduled time", lambda r: r.slip),
}
# Many values a request.
_PER_CHUNK: dict[str, tuple[str, str]] = {
    "itl": (
        "ITL",
        "gaps between successive tokens; tokens that share a chunk have gap 0 after its first",
    ),
    "icl": (
        "ICL",
        "gaps between successive chunks",
    ),
    "client_lag": ("client lag", "event-loop read time - kernel receive stamp, per chunk"),
}
_TOKENS: dict[str, Callable[[Requests], Floats]] = {
    "input_tokens": lambda r: r.input_tokens,
    "output_tokens": lambda r: r.output_tokens,
    "total_tokens": lambda r: r.total_tokens,
}
ADJUSTED = ("latency", "ttft")
MOST = 0.5
"""A time that more answers than this share do not have is absent."""

_OVER = "over successful requests of the steady window"
_ANSWERS = "of all requests of the window that succeeded"


_COST = (
    "metered: input tokens x their price + output tokens x theirs; "
    "self-hosted: accelerators x price per hour / (3600 x requests/s held)"
)


def _definitions() -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    times = {name: (label, text) for name, (label, text, _) in PER_REQUEST.items()} | _PER_CHUNK
    for name, (label, text) in times.items():
        for stat in STATISTICS:
            found[f"{name}_{stat}"] = Metric(
                f"{label} {stat}", "ms", f"{stat} {_OVER} of {text}", "lower"
            )
    for name in ADJUSTED:
        for q in QUANTILES:
            label, text = times[name]
            found[f"adjusted_{name}_p{q:g}"] = Metric(
                f"{label} p{q:g}, adjusted",
                "ms",
                f"p{q:g} over all requests of the steady window of {text}; a failure counts as infinite",
                "lower",
            )
    for name in _TOKENS:
        for stat in ("mean", "p50", "p95"):
            words = name.replace("_", " ")
            text = f"{stat} over successful requests of the window of {words} per request"
            found[f"{name}_{stat}"] = Metric(f"{words} {stat}", "tokens", text, "lower")
    inside = "that succeeded inside the steady window, over its length"
    found |= {
        "requests_per_s": Metric("throughput", "requests/s", f"requests {inside}", "higher"),
        "output_tokens_per_s": Metric("output throughput", "tokens/s", f"output tokens of requests {inside}", "higher"),
        "total_tokens_per_s": Metric("total throughput", "tokens/s", f"input and output tokens of requests {inside}", "higher"),
        "sessions_per_s": Metric(
            "sessions", "sessions/s", "sessions that began inside the steady window, over its length", "higher"
        ),
        "goodput": Metric("goodput", "requests/s", "requests that met every SLO, over the length of the steady window", "higher"),
        "slo_attainment": Metric("SLO attainment", "share", "requests that met every SLO, of all in the window", "higher"),
        "error_rate": Metric("error rate", "share", "requests that failed, of all in the window", "lower"),
        "empty_rate": Metric("empty answers", "share", f"answers without text, and without a tool call, {_ANSWERS}", "lower"),
        "length_share": Metric(
            "answers cut short", "share", f"answers that ended at the token limit (finish_reason length), {_ANSWERS}", "lower"
        ),
        "achieved_rate": Metric("achieved rate", "requests/s", "requests sent, over the length of the steady window", "higher"),
        "in_flight": Metric("in flight", "requests", "requests under way, averaged over the steady window", "lower"),
        "little_ratio": Metric(
            "Little's law", "ratio", "mean in flight over achieved rate x mean time in flight; 1 in a steady state", "higher"
        ),
        "coalesced": Metric(
            "chunks read together", "share", "chunks that bear the arrival stamp of the one before, of all that have one before",
            "lower",
        ),
        "quality": Metric("quality", "share", "mean score of the prompts; a failed request scores 0", "higher"),
        "consistency": Metric(
            "consistency", "share", "pairs of answers to one prompt that are the same, normalised; mean of the prompts", "higher"
        ),
        "size_bytes": Metric("model size", "bytes", "bytes of the weight files", "lower"),
        "cost_per_request": Metric("cost per request", "$", _COST, "lower"),
        "cost_per_1000": Metric("cost per 1,000 requests", "$", "1,000 x cost per request", "lower"),
        "cost_per_success": Metric(
            "cost per success", "$", "cost of all requests, failed tries too, over those that succeeded", "lower"
        ),
        "cost_per_correct": Metric("cost per correct answer", "$", "cost per request / quality", "lower"),
        "cost_per_million_output_tokens": Metric(
            "cost per million output tokens", "$", "cost of the requests over their output tokens, x 1,000,000", "lower"
        ),
        "cost_per_month": Metric("cost per month", "$", "cost per request x requests per month", "lower"),
    }  # fmt: skip
    return found | CACHE


METRICS = _definitions()
RATES = (*THROUGHPUT, "goodput", "achieved_rate")
ANSWER_SHARES: dict[str, Callable[[Requests], NDArray[np.bool_]]] = {
    "empty_rate": lambda r: r.empty,
    "length_share": lambda r: r.cut_short,
}
SHARES = ("slo_attainment", "error_rate")
TOKEN_MEANS = {f"{name}_mean": values for name, values in _TOKENS.items()}
DISTRIBUTIONS = (*PER_REQUEST, *_PER_CHUNK)

Limits = Mapping[str, float]  # a time metric to the most a request may take, in ms


def values_of(requests: Requests, name: str) -> Floats:
    """The values (k,) of a distribution over the requests that succeeded; one a request, or one a token or chunk."""
    if name in PER_REQUEST:
        values = PER_REQUEST[name][2](requests)[requests.ok]
    elif name in _PER_CHUNK:
        return requests.chunks.values(name, requests.ok)
    else:
        values = _TOKENS[name](requests)[requests.ok]
    return np.asarray(values[~np.isnan(values)])


def values_in(block: Block, name: str) -> Floats:
    """The values of a distribution in a block: tokens of all its requests, times of the steady ones."""
    return values_of(block.requests if name in _TOKENS else block.steady, name)


def met(requests: Requests, limits: Limits) -> NDArray[np.bool_]:
    """Which requests (n,) succeeded and kept every limit. A metric that a request does not have (TPOT of one token) is kept."""
    kept: NDArray[np.bool_] = requests.ok & ~np.isnan(requests.last)
    for name, limit in limits.items():
        if name in PER_REQUEST:
            with np.errstate(invalid="ignore"):
                kept = kept & ~(PER_REQUEST[name][2](requests) > limit)
        else:
            with np.errstate(invalid="ignore"):
                kept = kept & ~(requests.chunks.means(name) > limit)
    return kept


def block_statistics(block: Block, limits: Limits) -> dict[str, float]:
    """Every number of one block by its key, NaN where it has none. No floors: these are for the spread between blocks."""
    found: dict[str, float] = {}
    for name in (*DISTRIBUTIONS, *_TOKENS):
        if name in _PER_CHUNK:
            numbers = [block.by_chunk[name].mean, *block.by_chunk[name].percentiles]
        else:
            numbers = _mean_and_percentiles(values_in(block, name))
        found |= {
            key: x
            for stat, x in zip(STATISTICS, numbers, strict=True)
            if (key := f"{name}_{stat}") in METRICS
        }
    return found | counted([block], limits)


def _mean_and_percentiles(values: Floats) -> list[float]:
    return (
        [float(np.mean(values)), *np.percentile(values, QUANTILES).tolist()]
        if len(values)
        else [nan] * len(STATISTICS)
    )


def counted(blocks: Sequence[Block], limits: Limits) -> dict[str, float]:
    """Rates and shares of some blocks taken together: shares of all requests, rates of the steady parts."""
    n, window = sum(len(b.requests) for b in blocks), sum(b.window_s for b in blocks)
    good = sum(int(met(b.steady, limits).sum()) for b in blocks)
    sent = sum(int((~np.isnan(b.steady.sent)).sum()) for b in blocks)
    counts = {"goodput": good, "achieved_rate": sent}
    found = {
        key: count / window if window > 0 else nan for key, count in counts.items()
    } | throughput(blocks)
    found["slo_attainment"] = (
        sum(int(met(b.requests, limits).sum()) for b in blocks) / n if n else nan
    )
    found["error_rate"] = sum(int((~b.requests.ok).sum()) for b in blocks) / n if n else nan
    answered = sum(int(b.requests.ok.sum()) for b in blocks)
    for key, which in ANSWER_SHARES.items():
        found[key] = (
            sum(int(which(b.requests).sum()) for b in blocks) / answered if answered else nan
        )
    found["in_flight"] = (
        sum(b.in_flight * b.window_s for b in blocks) / window if window > 0 else nan
    )
    gaps = [b.by_chunk["icl"] for b in blocks]
    after_another = sum(each.n for each in gaps)
    found["coalesced"] = sum(each.zeros for each in gaps) / after_another if after_another else nan
    stays = np.concatenate([b.steady.in_flight for b in blocks])
    ended = stays[~np.isnan(stays)]
    expected = found["achieved_rate"] * float(np.mean(ended)) / 1e3 if len(ended) else nan
    found["little_ratio"] = found["in_flight"] / expected if expected and expected > 0 else nan
    return found


def stage_metrics(stage: StageData, limits: Limits) -> dict[str, Estimate]:
    """Every metric of a stage, pooled over its blocks, each with its interval or the reason why it is absent."""
    per_block = [block_statistics(block, limits) for block in stage.blocks]
    found: dict[str, Estimate] = {}
    for name in PER_REQUEST:
        found |= _distribution(stage, per_block, name)
    for name in _PER_CHUNK:
        found |= _chunk_distribution(stage, per_block, name)
    for name in _TOKENS:
        values = np.concatenate([values_in(b, name) for b in stage.blocks])
        found[f"{name}_mean"] = _mean(values, [s[f"{name}_mean"] for s in per_block])
        found |= {f"{name}_p{q:g}": percentile(values, q) for q in (50.0, 95.0)}
    for name in ADJUSTED:
        found |= _adjusted(stage, name)
    pooled = counted(stage.blocks, limits)
    for key in (*RATES, "in_flight", "little_ratio", "coalesced"):
        most = 1.0 if key == "coalesced" else inf
        found[key] = _over_blocks(pooled[key], [s[key] for s in per_block], stage.timed, most)
    found["sessions_per_s"] = _sessions(stage)
    if none_ended_inside(stage.blocks):
        found |= {key: replace(found[key], reason=NONE_INSIDE) for key in THROUGHPUT}
    for key in SHARES:
        found[key] = _share(pooled[key], stage.n)
    for key in ANSWER_SHARES:
        found[key] = _share(pooled[key], stage.succeeded, "succeeded")
    lacking = _no_token_times(stage)
    for name, why in lacking.items():
        found |= {f"{name}_{stat}": absent(why) for stat in STATISTICS}
    no_limit = None if limits else "the experiment names no slo"
    if unmet := next((why for name, why in lacking.items() if name in limits), no_limit):
        found |= dict.fromkeys(("goodput", "slo_attainment"), absent(unmet))
    return found


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


def _no_token_times(stage: StageData) -> dict[str, str]:
    """Of TPOT and ITL, those that most answers of a stage do not have, and why."""
    steady = [block.steady for block in stage.blocks]
    return {name: reason for name in ("tpot", "itl") if (reason := unmeasured(name, steady, MOST))}


def _distribution(
    stage: StageData, per_block: Sequence[Mapping[str, float]], name: str
) -> dict[str, Estimate]:
    values = np.concatenate([values_in(b, name) for b in stage.blocks])
    found = {f"{name}_mean": _mean(values, [s[f"{name}_mean"] for s in per_block])}
    keys = [f"{name}_p{q:g}" for q in QUANTILES]
    return found | dict(zip(keys, percentiles(values, QUANTILES), strict=True))


def _chunk_distribution(
    stage: StageData, per_block: Sequence[Mapping[str, float]], name: str
) -> dict[str, Estimate]:
    """Tokens of one answer hang together, so ranks of tokens would promise too much: only blocks tell the spread."""
    pooled = stage.by_chunk[name]
    if not pooled.n:
        return {
            f"{name}_{stat}": absent("no successful request has this value") for stat in STATISTICS
        }
    found = {}
    for stat, value in zip(STATISTICS, (pooled.mean, *pooled.percentiles), strict=True):
        key = f"{name}_{stat}"
        blocks = [s[key] for s in per_block if not isnan(s[key])]
        if stat == "mean":
            found[key] = estimate(value, _around_mean(stage, name, value, blocks), pooled.n)
        elif reason := floor_reason(float(stat[1:]), pooled.n):
            found[key] = absent(reason, pooled.n)
        else:
            reason = None if len(blocks) > 1 else "an interval needs at least two blocks"
            bounds = Bounds(-inf, inf) if reason else log_t_bounds(value, blocks, TAIL, TAIL)
            found[key] = estimate(value, bounds, pooled.n, reason)
    return found


def _around_mean(stage: StageData, name: str, mean: float, blocks: Sequence[float]) -> Bounds:
    """t over the blocks' means, or over the times themselves where there is one block."""
    if len(blocks) > 1:
        return t_bounds(mean, blocks, TAIL, TAIL)
    times = chunk_times(stage.blocks, name)
    return (
        t_bounds_of(mean, times.deviation(), len(times), TAIL, TAIL)
        if len(times) > 1
        else Bounds(-inf, inf)
    )


def _mean(values: Floats, per_block: Sequence[float]) -> Estimate:
    """A mean with t over the blocks, or over the values themselves where there is one block."""
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
    values = np.concatenate([np.where(r.ok, PER_REQUEST[name][2](r), inf) for r in requests])
    values = np.where(np.isnan(values), inf, values)
    found = {}
    for q in QUANTILES:
        key = f"adjusted_{name}_p{q:g}"
        if floor_reason(q, len(values)) or upper_percentile(values, q) < inf:
            found[key] = percentile(values, q)
        else:
            found[key] = absent(
                f"infinite: more than {100 - q:g} % of the requests failed", len(values)
            )
    return found
