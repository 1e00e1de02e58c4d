"""Whether a server kept up with what was offered: where it did not, latency grows with every request.

A server that can do `mu` requests a second and is offered `lambda` falls behind by `lambda / mu - 1` seconds a second, and so
does the latency by scheduled time: its slope is what is tested. Arrivals and ends of a window are not compared, since what
arrived near its end ends after it, however well the server keeps up.

A server that is exactly full keeps up in the long run, and still its queue wanders, like a random walk that
can't be negative. With Poisson arrivals and exponential work (a variance of 2 a request, in units of work)
the expected slope of n such latencies that begin with an empty queue is
12 (2/5 - 1/3) sqrt(2/pi) sqrt(2/n) = 0.9 / sqrt(n), and the standard deviation of the slope of a random
walk of N steps is sqrt(6/5 x 2 / N) (S. N. Durlauf, P. C. B. Phillips, "Trends versus random walks in time
series analysis", Econometrica 56, 1988). A queue grew where the slope is above both, and above chance in
independent latencies at 1 %. `benchmarks/steadiness` has the error rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from results.requests import Floats, Requests

FULL_SLOPE = 0.9
FULL_VARIANCE = 2.4
CHANCE = 2.326  # standard normal, one-sided 1 %
FEWEST = 20


@dataclass(frozen=True)
class Held:
    """`value`: whether the offered load was held, None where that can't be said; `reason` why not, or why it can't.

    `lag`: by how many seconds latency rose in a second, NaN where too little was measured.
    """

    value: bool | None
    reason: str | None
    lag: float


def held(blocks: Sequence[Requests], offered: bool) -> Held:
    """From the requests of each block's steady part. `offered`: by a schedule, and not by a closed loop."""
    lag, grew = growth(blocks)
    if grew:
        return Held(False, f"the queue grew: latency rose by {lag * 1e3:.0f} ms a second", lag)
    if not offered:
        return Held(None, "a closed loop offers no rate: the server sets its pace, which is that of a full server", lag)
    if np.isnan(lag):
        return Held(None, f"fewer than {FEWEST} requests came to an end: too few to tell whether the queue grew", lag)
    return Held(True, None, lag)


def growth(blocks: Sequence[Requests]) -> tuple[float, bool]:
    """The slope of latency by scheduled time, averaged over the blocks by their requests, and whether it is a queue's."""
    fits = [_slope(*_stays(block)) for block in blocks]
    known = [(slope, error, n) for slope, error, n in fits if n]
    n = np.array([size for _, _, size in known])
    total = int(n.sum()) if known else 0
    if total < FEWEST:
        return float("nan"), False
    weights = n / total
    lag = float(np.dot(weights, [slope for slope, _, _ in known]))
    error = float(np.sqrt(np.dot(weights**2, np.square([error for _, error, _ in known]))))
    full = max(FULL_SLOPE / sqrt(total / len(known)), sqrt(FULL_VARIANCE / total))
    return lag, lag > full and lag > CHANCE * error


def _stays(requests: Requests) -> tuple[Floats, Floats]:
    """Scheduled time and time until the end, in s, of requests that were served, or that waited until a deadline."""
    waited = np.array([f is not None and f.startswith("timeout_") for f in requests.failure], dtype=np.bool_)
    took = (requests.done - requests.scheduled) / 1e3
    known = (requests.ok | waited) & ~np.isnan(took)
    return requests.scheduled[known] / 1e3, took[known]


def _slope(at: Floats, took: Floats) -> tuple[float, float, int]:
    """Least squares: slope, its standard error, and the number of points; 0 of them where there is no line to fit."""
    x = at - at.mean() if len(at) else at
    spread = float(np.dot(x, x))
    if len(at) < 3 or spread == 0:
        return 0.0, 0.0, 0
    slope = float(np.dot(x, took)) / spread
    rest = took - took.mean() - slope * x
    return slope, sqrt(float(np.dot(rest, rest)) / (len(at) - 2) / spread), len(at)
