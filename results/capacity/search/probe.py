"""A probe: one open-loop load of a search, as counts of requests over each limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from foundation.arrays import Flags, Floats
from results.measures.saturation import growth_of

BATCHES = (10, 20)
"""Into how many batches a probe is divided to see how much its requests hang together."""
LEAST_SLOW, MOST_SLOW, FEWEST_SLOW = 0.1, 0.2, 30
FEWEST_OVER = 5


@dataclass(frozen=True)
class ShareLimit:
    """An objective as a share: "p95 <= limit" lets 5 % of the requests be over the limit.

    `metric`: a key of `results.metrics`. `allowed`: the largest share, between 0 and 1. `limit`:
    in the metric's unit, None where the metric is a share itself. `text`: as the SLO writes it.
    """

    metric: str
    allowed: float
    limit: float | None
    text: str


@dataclass(frozen=True)
class ProbeShare:
    """How many of a probe's requests were over a limit.

    `inflation`: the variance of their share over that of independent requests, at least 1. So
    `requests` / `inflation` independent requests would say as much.
    """

    over: int
    requests: int
    inflation: float


@dataclass(frozen=True)
class RateProbe:
    """What was seen at one rate, in requests/s.

    `arrived`: the rate of the arrivals, which differs by chance from the offered `rate`. `shares`:
    by metric. `overloaded`: why the load was not held, None where nothing says so. `completed`:
    requests/s that ended well. `doubt`: why the load generator, and not the server, may have set
    these figures; then they do not count.
    """

    rate: float
    arrived: float
    shares: Mapping[str, ProbeShare]
    overloaded: str | None
    completed: float
    doubt: str | None = None

    @property
    def requests(self) -> int:
        """The requests that were counted."""
        return max(share.requests for share in self.shares.values())

    @property
    def seconds(self) -> float:
        """How long they took to arrive."""
        return self.requests / self.arrived


def probe_share(over: Flags, latency: Floats, allowed: float) -> ProbeShare:
    """Counts requests in the order of their schedule.

    `over` (n,): whether each is over the limit. `latency` (n,): in any unit, NaN for failures. The
    slowest of them, as many as are allowed to be over the limit, show how long a busy spell lasts
    even where none is over it.
    """
    factors = [_inflation(_slowest(latency, allowed))]
    if FEWEST_OVER <= over.sum() <= len(over) - FEWEST_OVER:
        factors.append(_inflation(over))
    return ProbeShare(int(over.sum()), len(over), max(factors))


def _slowest(latency: Floats, allowed: float) -> Flags:
    """The slowest requests, from a tenth to a fifth of all: enough of them to see spells by."""
    if not len(latency):
        return np.zeros(0, dtype=np.bool_)
    share = min(max(allowed, LEAST_SLOW, FEWEST_SLOW / len(latency)), MOST_SLOW)
    worst = np.where(np.isnan(latency), np.inf, latency)
    return np.asarray(worst > np.percentile(worst, 100 * (1 - share), method="lower"))


def _inflation(flags: Flags) -> float:
    """Batch means: the variance of the batches' shares over that of independent requests.

    Of two sizes of batches the larger figure counts. Busy spells longer than a batch then leave
    no more than one independent request a batch.
    """
    n, share = len(flags), float(flags.mean()) if len(flags) else 0.0
    if share in (0.0, 1.0):
        return 1.0
    factors = [1.0]
    for batches in BATCHES:
        if (size := n // batches) < 2:
            continue
        means = flags[: size * batches].reshape(batches, size).mean(axis=1)
        factors.append(float(means.var(ddof=1)) * size / (share * (1 - share)))
    return max(factors)


def overload(scheduled: Floats, took: Floats) -> str | None:
    """Why the load was not held, None where nothing says so.

    `scheduled`, `took` (n,): s, of requests that ended or met a deadline.
    """
    lag, grew = growth_of([(scheduled, took)])
    return f"the queue grew: latency rose by {lag * 1e3:.0f} ms a second" if grew else None
