"""The metrics of a simulation, under the keys and in the units of `results.metrics`."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from foundation.arrays import Flags, Floats, Ints
from results.capacity.demand.demand import Demand
from results.capacity.simulation.simulated import Simulated
from results.config import Slo
from results.measures.request_limits import no_goodput, request_limits
from results.measures.values import Limits
from results.metrics import FLOORS, QUANTILES

FAMILIES = (
    *("latency", "service_latency", "ttft", "service_ttft", "tpot"),
    *("wait", "queue", "prefill", "itl"),
)
"""The times that a simulation has: those that an SLO can name."""


def simulated_metrics(
    simulated: Simulated, demand: Demand, slo: Slo, families: Iterable[str] = FAMILIES
) -> dict[str, float]:
    """Metrics by key, over the requests that arrive once the replicas have filled.

    Times are in ms, rates per second from then to the last arrival. A metric is absent where no
    request has it, a percentile also under its floor. No simulated request fails or is sent late.
    How many answers are empty or cut short is not simulated. `goodput` and `slo_attainment` are
    absent without a limit on a time, and where one is relative to the baseline. `families`: the
    times that are wanted.
    """
    numbers: dict[str, float] = {"error_rate": 0.0}
    for family in families:
        numbers |= distribution(simulated, demand, family)
    window = float(demand.arrival[-1]) - simulated.settled
    if window > 0:
        numbers |= _rates(simulated, demand, window)
    limits = request_limits(slo, {})
    if no_goodput(limits) is None:
        kept = _kept(simulated, demand, limits)[demand.arrival >= simulated.settled]
        numbers["slo_attainment"] = float(kept.mean())
        if window > 0:
            numbers["goodput"] = float(kept.sum()) / window
    return numbers


def distribution(simulated: Simulated, demand: Demand, family: str) -> dict[str, float]:
    """The mean and the percentiles of a time, ms, by key."""
    return statistics_of_times(family, *counted_times(simulated, demand, family))


def counted_times(simulated: Simulated, demand: Demand, family: str) -> tuple[Floats, Ints]:
    """A time of the requests or tokens (k,), ms, and how many have each, once the replicas fill."""
    if family == "itl":
        return simulated.gaps * 1e3, simulated.gap_tokens
    values = request_time(simulated, demand, family)
    values = values[(demand.arrival >= simulated.settled) & ~np.isnan(values)]
    return values, np.ones(len(values), np.int64)


def statistics_of_times(family: str, values: Floats, counts: Ints) -> dict[str, float]:
    """The mean and the percentiles of these times (k,), each so often, by key."""
    n = int(counts.sum())
    if not n:
        return {}
    quantiles = [q for q in QUANTILES if n >= FLOORS[q]]
    rank = np.array(quantiles) / 100 * (n - 1)
    low, high = _at_ranks(values, counts, np.array([np.floor(rank), np.ceil(rank)], np.int64))
    percentiles = low + rank % 1 * (high - low)
    numbers = {f"{family}_p{q:g}": float(p) for q, p in zip(quantiles, percentiles, strict=True)}
    return {f"{family}_mean": float(np.average(values, weights=counts)), **numbers}


def _at_ranks(values: Floats, counts: Ints, ranks: Ints) -> Floats:
    """The values at these places (from 0) if each value (k,) stood there as often as it counts."""
    if (counts == 1).all():  # a sort without its order takes a fraction of the time
        return np.asarray(np.sort(values)[ranks])
    order = np.argsort(values)
    return np.asarray(values[order][np.searchsorted(np.cumsum(counts[order]), ranks, "right")])


def request_time(simulated: Simulated, demand: Demand, family: str) -> Floats:
    """A time of each request (n,), ms; NaN where a request does not have it.

    The ITL of a request is its mean gap, which is its TPOT: a step sends one token.
    """
    if family in ("latency", "service_latency"):
        seconds = simulated.last - demand.arrival
    elif family in ("ttft", "service_ttft"):
        seconds = simulated.first - demand.arrival
    elif family in ("tpot", "itl"):
        gaps = np.where(demand.output_tokens > 1, demand.output_tokens - 1.0, np.nan)
        seconds = (simulated.last - simulated.first) / gaps
    elif family == "wait":
        seconds = simulated.queued - demand.arrival
    elif family == "queue":
        seconds = simulated.scheduled - simulated.queued
    else:
        seconds = simulated.first - simulated.delivery - simulated.scheduled
    return seconds * 1e3


def _rates(simulated: Simulated, demand: Demand, window: float) -> dict[str, float]:
    """Of the requests that end between the end of the warm-up and the last arrival."""
    ended = (simulated.last >= simulated.settled) & (simulated.last <= demand.arrival[-1])
    output = float(demand.output_tokens[ended].sum())
    return {
        "requests_per_s": float(ended.sum()) / window,
        "output_tokens_per_s": output / window,
        "total_tokens_per_s": (output + float(demand.input_tokens[ended].sum())) / window,
    }


def _kept(simulated: Simulated, demand: Demand, limits: Limits) -> Flags:
    """Which requests (n,) keep every limit; one keeps the limit on a time that it does not have."""
    kept = np.ones(len(demand), np.bool_)
    for family, limit in limits.items():
        kept &= ~(request_time(simulated, demand, family) > limit)
    return kept
