"""Servers of known capacity in virtual time: a rate and a number of requests in, times out."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import log

import numpy as np

from foundation.arrays import Floats
from results.capacity.search.probe import RateProbe, ShareLimit, overload, probe_share
from results.capacity.search.search import NextProbe

WARM_UP = 0.1
"""The share of a probe's requests that comes before those that count."""

Serve = Callable[[Floats, np.random.Generator, float, float], Floats]
"""Arrivals (n,) in s, the time since the search began, and the offered rate, to latencies (n,)."""


@dataclass(frozen=True)
class Plant:
    """A server, its SLO, and the true capacity in requests/s, NaN where there is none."""

    name: str
    serve: Serve
    limit_s: float
    q: float
    capacity: float

    @property
    def limits(self) -> list[ShareLimit]:
        """Its one objective, on the latency."""
        allowed = 1 - self.q / 100
        return [ShareLimit(f"latency_p{self.q:g}", allowed, self.limit_s * 1e3, f"{self.limit_s}s")]

    def probe(self, wanted: NextProbe, rng: np.random.Generator, since: float = 0.0) -> RateProbe:
        """A probe of Poisson arrivals that begins with an empty server."""
        before = int(wanted.requests * WARM_UP)
        at = np.cumsum(rng.exponential(1 / wanted.rate, wanted.requests + before))
        took = self.serve(at, rng, since, wanted.rate)
        at, took = at[before:], took[before:]
        [limit] = self.limits
        return RateProbe(
            wanted.rate,
            (len(at) - 1) / float(at[-1] - at[0]),
            {limit.metric: probe_share(took > self.limit_s, took, limit.allowed)},
            overload(at, took),
            len(at) / float((at + took).max() - at[0]),
        )


def in_turn(at: Floats, work: Floats) -> Floats:
    """One server, first come first served: Lindley's recursion as a running maximum."""
    idle_at = np.maximum.accumulate(at - (np.cumsum(work) - work))
    return np.asarray(idle_at + np.cumsum(work) - at)


def by_servers(at: Floats, work: Floats, servers: int) -> Floats:
    """Several servers, first come first served."""
    free, took = [0.0] * servers, np.empty(len(at))
    for i, (due, length) in enumerate(zip(at.tolist(), work.tolist(), strict=True)):
        ends = max(due, heapq.heappop(free)) + length
        took[i] = ends - due
        heapq.heappush(free, ends)
    return took


def mm1(limit_s: float, service_s: float = 0.1) -> Plant:
    """M/M/1: a latency is exponential with the rate mu - lambda."""
    capacity = 1 / service_s - log(20) / limit_s

    def serve(at: Floats, rng: np.random.Generator, since: float, rate: float) -> Floats:
        return in_turn(at, rng.exponential(service_s, len(at)))

    return Plant(f"M/M/1, limit {limit_s / service_s:.3g} services", serve, limit_s, 95.0, capacity)


def curve(capacity: float, steepness: float, q: float = 95.0) -> Plant:
    """Independent requests, whose share over the limit is logistic in the logarithm of the rate."""
    allowed = 1 - q / 100

    def serve(at: Floats, rng: np.random.Generator, since: float, rate: float) -> Floats:
        odds = allowed / (1 - allowed) * (rate / capacity) ** steepness
        return np.where(rng.random(len(at)) < odds / (1 + odds), 2.0, 0.5) * (
            0.9 + 0.2 * rng.random(len(at))
        )

    return Plant(f"curve, steepness {steepness:g}, p{q:g}", serve, 1.0, q, capacity)


def cliff(capacity: float) -> Plant:
    """Latency jumps beyond the limit for all requests above a rate."""

    def serve(at: Floats, rng: np.random.Generator, since: float, rate: float) -> Floats:
        return rng.lognormal(np.log(3.0 if rate > capacity else 0.2), 0.2, len(at))

    return Plant("cliff", serve, 1.0, 95.0, capacity)


def flat(latency_s: float) -> Plant:
    """The same latency at any rate, against a limit of 1 s."""

    def serve(at: Floats, rng: np.random.Generator, since: float, rate: float) -> Floats:
        return rng.lognormal(np.log(latency_s), 0.1, len(at))

    return Plant("flat", serve, 1.0, 95.0, float("nan"))


def drifting(limit_s: float, fall: float, over_s: float, service_s: float = 0.1) -> Plant:
    """M/M/1 whose work takes longer as time goes on: by `fall` (0.5: half as long again)."""

    def serve(at: Floats, rng: np.random.Generator, since: float, rate: float) -> Floats:
        slower = 1 + fall * np.minimum((since + at) / over_s, 1.0)
        return in_turn(at, rng.exponential(service_s, len(at)) * slower)

    return Plant("drift", serve, limit_s, 95.0, float("nan"))


def general(
    name: str,
    draw: Callable[[np.random.Generator, int], Floats],
    limit_s: float,
    servers: int,
    q: float,
) -> Plant:
    """M/G/k with work as `draw` draws it; the capacity is simulated."""

    def serve(at: Floats, rng: np.random.Generator, since: float, rate: float) -> Floats:
        work = draw(rng, len(at))
        return in_turn(at, work) if servers == 1 else by_servers(at, work, servers)

    mean = float(draw(np.random.default_rng(0), 100_000).mean())
    return Plant(name, serve, limit_s, q, simulated_capacity(serve, limit_s, q, servers / mean))


def simulated_capacity(
    serve: Serve, limit_s: float, q: float, full: float, requests: int = 400_000
) -> float:
    """The rate whose percentile is at the limit: halving, the same random numbers at each rate."""
    low, high = full * 0.01, full
    for _ in range(14):
        rate = (low + high) / 2
        rng = np.random.default_rng(12345)
        at = np.cumsum(rng.exponential(1 / rate, requests))
        over = np.percentile(serve(at, rng, 0.0, rate)[requests // 10 :], q) > limit_s
        low, high = (low, rate) if over else (rate, high)
    return (low + high) / 2


@cache
def bimodal(limit_s: float, servers: int = 1) -> Plant:
    """One request in five takes ten times as long as the others."""

    def draw(rng: np.random.Generator, n: int) -> Floats:
        return np.where(rng.random(n) < 0.2, 0.2, 0.02) * (0.9 + 0.2 * rng.random(n))

    return general(f"bimodal, {servers} servers", draw, limit_s, servers, 95.0)


@cache
def heavy_tail(limit_s: float, servers: int = 1) -> Plant:
    """Lognormal work with a coefficient of variation of 1.3."""

    def draw(rng: np.random.Generator, n: int) -> Floats:
        return rng.lognormal(np.log(0.06), 1.0, n)

    return general(f"heavy tail, {servers} servers", draw, limit_s, servers, 95.0)


@cache
def constant_work(limit_s: float, servers: int = 1, q: float = 95.0) -> Plant:
    """M/D/k: a queue before work of one length."""

    def draw(rng: np.random.Generator, n: int) -> Floats:
        return np.full(n, 0.1)

    return general(f"M/D/{servers}, p{q:g}", draw, limit_s, servers, q)
