"""The bracket of a search: a rate shown to hold, and one shown to fail.

It rests on the probes alone, and on one assumption: at a higher rate no fewer requests are over the
limit. Then probes at neighbouring rates may be counted together. If their share is shown to be
above the allowed one, the highest of their rates fails; if it is shown to be below, the lowest of
them holds. No curve is assumed, so none can be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf

from scipy.special import betaincinv

from results.capacity.search.probe import ProbeShare, RateProbe, ShareLimit

ERROR = 0.005
"""The chance that a probe shows the wrong thing: ten probes together have 5 %."""
PATIENCE = 5.0
"""A rate is shown to hold only in so many times the limit: a backlog takes time to reach it."""


@dataclass(frozen=True)
class BracketEnd:
    """One end of a bracket: the rate that was shown, and the offered rate of its probes.

    Both are 0 or infinite where no rate was shown. Where arrivals came slower than offered by
    chance, it is the slower rate that was shown to hold; where they came faster, it is the faster
    one that was shown to fail.
    """

    rate: float
    offered: float


NONE_HOLDS, NONE_FAILS = BracketEnd(0.0, 0.0), BracketEnd(inf, inf)


@dataclass(frozen=True)
class Bracket:
    """The highest rate shown to hold, and the lowest shown to fail."""

    holds: BracketEnd
    fails: BracketEnd

    @property
    def contradicts(self) -> bool:
        """Whether a rate failed at or below one that held: the server changed meanwhile."""
        return self.holds.rate >= self.fails.rate

    @property
    def ratio(self) -> float:
        """The rate that fails over the one that holds, infinite where one is missing."""
        return self.fails.rate / self.holds.rate if self.holds.rate else inf


def bracket(probes: Sequence[RateProbe], limits: Sequence[ShareLimit]) -> Bracket:
    """The bracket of all limits together: every one must hold, and one that fails is enough."""
    each = [_of_limit(as_counted(probes, m.metric), m, ERROR / len(limits)) for m in limits]
    return Bracket(
        min((ends.holds for ends in each), key=_rate), min((ends.fails for ends in each), key=_rate)
    )


def as_counted(probes: Sequence[RateProbe], metric: str) -> list[RateProbe]:
    """The probes in the order of their rates, with what all of them say about each.

    Busy spells become longer as the load grows, so a probe that saw none, by chance, counts with
    the inflation of those below it. At an overloaded server every request will be over the limit,
    if not yet.
    """
    counted = []
    for probe in sorted(probes, key=lambda each: each.rate):
        share = probe.shares[metric]
        below = [p for p in probes if p.rate <= probe.rate and p.overloaded is None]
        inflation = max([share.inflation, *(p.shares[metric].inflation for p in below)])
        over = share.over if probe.overloaded is None else share.requests
        seen = ProbeShare(over, share.requests, inflation)
        counted.append(replace(probe, shares={metric: seen}))
    return counted


def _of_limit(ordered: Sequence[RateProbe], limit: ShareLimit, error_of_failing: float) -> Bracket:
    long_enough = PATIENCE * (limit.limit or 0.0) / 1e3
    patient = [p for p in ordered if p.overloaded is not None or p.seconds >= long_enough]
    holds = [
        _held(pool) for pool in _pools(patient) if upper_bound(pool, limit.metric) < limit.allowed
    ]
    fails = [
        _failed(pool)
        for pool in _pools(ordered)
        if lower_bound(pool, limit.metric, error_of_failing) > limit.allowed
    ]
    return Bracket(
        max(holds, key=_rate, default=NONE_HOLDS), min(fails, key=_rate, default=NONE_FAILS)
    )


def _held(pool: Sequence[RateProbe]) -> BracketEnd:
    offered = pool[0].rate
    return BracketEnd(offered * min(1.0, _arrived_share(pool)), offered)


def _failed(pool: Sequence[RateProbe]) -> BracketEnd:
    offered = pool[-1].rate
    return BracketEnd(offered * max(1.0, _arrived_share(pool)), offered)


def _arrived_share(pool: Sequence[RateProbe]) -> float:
    """The requests that arrived over those that were to arrive in that time."""
    return sum(p.requests for p in pool) / sum(p.rate * p.seconds for p in pool)


def _rate(end: BracketEnd) -> float:
    return end.rate


def _pools(probes: Sequence[RateProbe]) -> Iterator[Sequence[RateProbe]]:
    """All runs of probes at neighbouring rates. Probes of one rate are never parted."""
    n = len(probes)
    for start in range(n):
        if start and probes[start - 1].rate == probes[start].rate:
            continue
        for end in range(start + 1, n + 1):
            if end == n or probes[end].rate != probes[end - 1].rate:
                yield probes[start:end]


def upper_bound(pool: Sequence[RateProbe], metric: str, error: float = ERROR) -> float:
    """The share that the pool's is below, but for a chance of `error` (Clopper, Pearson)."""
    over, requests = effective(pool, metric)
    return float(betaincinv(over + 1, max(requests - over, 1e-9), 1 - error))


def lower_bound(pool: Sequence[RateProbe], metric: str, error: float = ERROR) -> float:
    """The share that the pool's is above, but for a chance of `error`."""
    over, requests = effective(pool, metric)
    return float(betaincinv(over, requests - over + 1, error)) if over else 0.0


def effective(pool: Sequence[RateProbe], metric: str) -> tuple[float, float]:
    """Requests over the limit and all requests, as if they were independent."""
    shares = [probe.shares[metric] for probe in pool]
    return (
        sum(share.over / share.inflation for share in shares),
        sum(share.requests / share.inflation for share in shares),
    )
