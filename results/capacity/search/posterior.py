"""Where the capacity probably lies: which rate a search tries next rests on it, and nothing else.

Adaptive estimation of a psychometric function: a posterior on a grid over the logarithm of the
capacity and the steepness (L. L. Kontsevich, C. W. Tyler, "Bayesian adaptive estimation of
psychometric slope and threshold", Vision Research 39, 1999; A. B. Watson, "QUEST+: A general
multidimensional Bayesian adaptive psychometric method", Journal of Vision 17, 2017). The share over
the limit is taken as logistic in the logarithm of the rate, through the allowed share at the
capacity. The steepest one is a cliff.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from scipy.special import expit, logit

from foundation.arrays import Floats
from results.capacity.search.bracket import effective
from results.capacity.search.probe import RateProbe, ShareLimit

STEEPNESS = np.array([2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 256.0])
POINTS = 400
MOST_EFFECTIVE = 2_000.0
"""A probe counts for at most so many requests, since the curve is no more than a guess."""
UNLIKE = 0.01
"""A share that the curve can't explain has at least this chance, for the same reason."""
FULL_SHARE, FULL_REQUESTS = 0.98, 40.0
"""An overloaded probe counts as one with so many requests, of which this share is over."""
FULL_LAG = 1.5
"""A server that is full, and no request of which keeps the limit, was offered this much more."""
BEYOND = 3.0
"""Where a model knows only a bound, the capacity is looked for up to so many times that."""
BELOW_FULL, SPREAD_BELOW_FULL, ELSEWHERE = 0.25, 0.25, 0.01
"""The capacity is likely to lie below what an overloaded server completed: by how much in the
logarithm, give or take, and how likely it is to lie elsewhere."""


@dataclass(frozen=True)
class RateRange:
    """Rates in requests/s, from `low` to `high`, which is infinite where only a bound is known."""

    low: float
    high: float

    @property
    def likely(self) -> RateRange:
        """With an end also where none is known: some way beyond the bound."""
        return self if self.high < inf else RateRange(self.low, BEYOND * self.low)


@dataclass(frozen=True)
class CapacityGuess:
    """Weights (k, m) of `STEEPNESS` and of the logarithms (m,) of the capacity, for one limit."""

    logs: Floats
    weights: Floats
    limit: ShareLimit

    @property
    def median(self) -> float:
        """The capacity that is as likely exceeded as not, requests/s."""
        place = int(np.searchsorted(np.cumsum(self.weights.sum(axis=0)), 0.5))
        return float(np.exp(self.logs[min(place, len(self.logs) - 1)]))

    def shares_at(self, rate: float) -> Floats:
        """The shares (k, m) over the limit at a rate, by steepness and capacity."""
        return _shares(np.log(rate), self.logs, self.limit.allowed)


def guess(
    probes: Sequence[RateProbe], limit: ShareLimit, support: RateRange, prior: RateRange | None
) -> CapacityGuess:
    """The posterior for one limit on `support`, flat without a `prior` (a 95 % interval)."""
    logs = np.linspace(np.log(support.low), np.log(support.high), POINTS)
    log_weights = np.zeros((len(STEEPNESS), POINTS))
    if prior is not None:
        prior = prior.likely
        middle = np.clip((np.log(prior.low) + np.log(prior.high)) / 2, logs[0], logs[-1])
        spread = max((np.log(prior.high) - np.log(prior.low)) / 3.92, 0.02)
        normal = np.exp(-(((logs - middle) / spread) ** 2) / 2)
        log_weights += np.log(normal + UNLIKE)
    full = [p.completed for p in probes if p.completed > 0 and _is_full(p, limit)]
    if full:
        from_full = (logs - np.log(min(full)) + BELOW_FULL) / SPREAD_BELOW_FULL
        log_weights += np.log(np.exp(-(from_full**2) / 2) + ELSEWHERE)
    for probe in probes:
        log_weights += _log_likelihood(probe, limit, logs)
    weights = np.exp(log_weights - log_weights.max())
    return CapacityGuess(logs, weights / weights.sum(), limit)


def _is_full(probe: RateProbe, limit: ShareLimit) -> bool:
    """Whether what the server completed is all that it can.

    One that shares itself among its requests may be full without a queue whose latency grows.
    """
    share = probe.shares[limit.metric]
    falls_behind = probe.completed * FULL_LAG < probe.rate
    return probe.overloaded is not None or (
        falls_behind and share.over >= FULL_SHARE * share.requests
    )


def _log_likelihood(probe: RateProbe, limit: ShareLimit, logs: Floats) -> Floats:
    shares = _shares(np.log(probe.rate), logs, limit.allowed)
    if probe.overloaded is not None:
        over, requests = FULL_SHARE * FULL_REQUESTS, FULL_REQUESTS
    else:
        over, requests = effective([probe], limit.metric)
        scale = min(1.0, MOST_EFFECTIVE / requests)
        over, requests = over * scale, requests * scale
    log_likely = over * np.log(shares) + (requests - over) * np.log1p(-shares)
    return np.asarray(np.logaddexp(log_likely - log_likely.max(), 2 * np.log(UNLIKE)))


def _shares(log_rate: float, logs: Floats, allowed: float) -> Floats:
    """Shares over the limit at a rate (k, m), for each steepness and capacity."""
    shares = expit(logit(allowed) + STEEPNESS[:, None] * (log_rate - logs[None, :]))
    return np.asarray(np.clip(shares, 1e-4, 1 - 1e-4))
