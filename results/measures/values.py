"""The values behind each metric: of requests, of one block, and of blocks taken together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan

import numpy as np
from numpy.typing import NDArray

from foundation.arrays import Floats
from foundation.run.requests import Requests
from results.measures.shares import ANSWER_SHARES, counts_of
from results.measures.steady_state import StageBlock
from results.measures.throughput import throughput
from results.metrics import QUANTILES, RECORDS, STATISTICS, families

PER_REQUEST = families("request")
PER_CHUNK = families("chunk")
TOKENS = families("request", "tokens")

Limits = Mapping[str, float]
"""The most that a request may take, in ms, by the family of the time."""


def per_request(requests: Requests, family: str) -> Floats:
    """A time or number of tokens of each request (n,): the property of `Requests` of that name."""
    return np.asarray(getattr(requests, family), np.float64)


def values_of(requests: Requests, family: str) -> Floats:
    """The values (k,) over the requests that succeeded, one a request, or one a token or chunk."""
    if family in PER_CHUNK:
        return requests.chunks.values(family, requests.ok)
    values = per_request(requests, family)[requests.ok]
    return np.asarray(values[~np.isnan(values)])


def values_in(block: StageBlock, family: str) -> Floats:
    """`values_of` a block: tokens of all its requests, times of the steady ones."""
    return values_of(block.requests if family in TOKENS else block.steady, family)


def met(requests: Requests, limits: Limits) -> NDArray[np.bool_]:
    """Which requests (n,) succeeded and kept every limit.

    A request keeps the limit on a time that it does not have (TPOT of one token).
    """
    kept: NDArray[np.bool_] = requests.ok & ~np.isnan(requests.last)
    for family, limit in limits.items():
        chunked = family in PER_CHUNK
        times = requests.chunks.means(family) if chunked else per_request(requests, family)
        with np.errstate(invalid="ignore"):
            kept = kept & ~(times > limit)
    return kept


def block_statistics(block: StageBlock, limits: Limits) -> dict[str, float]:
    """Every metric of one block by its key, NaN where it has none.

    Percentiles have no floor here: these numbers are for the spread between blocks.
    """
    numbers: dict[str, float] = {}
    for family in (*PER_REQUEST, *PER_CHUNK, *TOKENS):
        if family in PER_CHUNK:
            each = [block.by_chunk[family].mean, *block.by_chunk[family].percentiles]
        else:
            each = _mean_and_percentiles(values_in(block, family))
        numbers |= {
            key: number
            for statistic, number in zip(STATISTICS, each, strict=True)
            if (key := f"{family}_{statistic}") in RECORDS
        }
    return numbers | counted([block], limits)


def _mean_and_percentiles(values: Floats) -> list[float]:
    if not len(values):
        return [nan] * len(STATISTICS)
    return [float(np.mean(values)), *np.percentile(values, QUANTILES).tolist()]


def counted(blocks: Sequence[StageBlock], limits: Limits) -> dict[str, float]:
    """Rates and shares of blocks taken together: shares of all requests, rates of steady parts."""
    n, window = sum(len(b.requests) for b in blocks), sum(b.window_s for b in blocks)
    good = sum(int(met(b.steady, limits).sum()) for b in blocks)
    sent = sum(int((~np.isnan(b.steady.sent)).sum()) for b in blocks)
    numbers = throughput(blocks) | {
        "goodput": _over(good, window),
        "achieved_rate": _over(sent, window),
        "slo_attainment": _over(sum(int(met(b.requests, limits).sum()) for b in blocks), n),
        "in_flight": _over(sum(b.in_flight * b.window_s for b in blocks), window),
    }
    for key in ("error_rate", *ANSWER_SHARES):
        counts = [counts_of(key, b.requests) for b in blocks]
        numbers[key] = _over(sum(count for count, _ in counts), sum(of for _, of in counts))
    gaps = [b.by_chunk["icl"] for b in blocks]
    numbers["coalesced"] = _over(sum(each.zeros for each in gaps), sum(each.n for each in gaps))
    stays = np.concatenate([b.steady.in_flight for b in blocks])
    ended = stays[~np.isnan(stays)]
    expected = numbers["achieved_rate"] * float(np.mean(ended)) / 1e3 if len(ended) else nan
    return numbers | {"little_ratio": _over(numbers["in_flight"], expected)}


def _over(amount: float, whole: float) -> float:
    """NaN where there is nothing to divide by."""
    return amount / whole if whole > 0 else nan
