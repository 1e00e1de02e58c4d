"""Whether a server kept up with the offered load; otherwise latency grows with every request.

A server that can do `mu` requests a second and is offered `lambda` falls behind by `lambda / mu -
1` seconds a second, and so does the latency by scheduled time: its slope is what is tested
(`growth`). Arrivals and ends are not simply counted, since what arrives near a window's end ends
after it, however well the server keeps up. A server that shares itself among its requests may fall
behind without a slope: for it, ends are held against those that the block's own latencies make
likely (`behind_arrivals`).

A server that is exactly full keeps up in the long run, and still its queue wanders, like a random
walk that can't be negative. With Poisson arrivals and exponential work (a variance of 2 a request,
in units of work) the expected slope of n such latencies that begin with an empty queue is 12 (2/5 -
1/3) sqrt(2/pi) sqrt(2/n) = 0.9 / sqrt(n), and the standard deviation of the slope of a random walk
of N steps is sqrt(6/5 x 2 / N) (S. N. Durlauf, P. C. B. Phillips, "Trends versus random walks in
time series analysis", Econometrica 56, 1988). A queue grew where the slope is above both, and above
chance in independent latencies at 1 %. `benchmarks/steadiness` has the error rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.special import stdtrit

from foundation.arrays import Floats
from foundation.run.requests import Requests
from results.statistics.unpaired import kruskal_p

FULL_SLOPE = 0.9
FULL_VARIANCE = 2.4
CHANCE = 2.326  # standard normal, one-sided 1 %
CERTAIN = 0.99
FEWEST = 20
FEWEST_BLOCKS = 3
# Of the requests, so many must be behind to matter.
BEHIND_SHARE = 0.1
# Of the time in which requests arrive, answers may take so much before a queue shows only behind
# it.
OUTLASTS = 0.5
# Of the mean latency, the quarters of a block must differ by so much to matter.
APART = 0.1


@dataclass(frozen=True)
class HeldLoad:
    """Whether the offered load was held (None: unknown), and the `reason` if not.

    `lag`: by how many seconds latency rose in a second, NaN where too little was measured.
    """

    value: bool | None
    reason: str | None
    lag: float


def held(blocks: Sequence[Requests], offered: bool) -> HeldLoad:
    """From the requests of each block's steady part.

    `offered`: by a schedule, and not by a closed loop.
    """
    lag, grew = growth(blocks)
    if grew:
        return HeldLoad(False, f"the queue grew: latency rose by {lag * 1e3:.0f} ms a second", lag)
    if offered and (behind := behind_arrivals(blocks)):
        return HeldLoad(False, behind, lag)
    if offered and (why := too_short(blocks)):
        return HeldLoad(None, why, lag)
    if not offered:
        return HeldLoad(
            None,
            "a closed loop offers no rate: the server sets its pace, which is that of a full "
            "server",
            lag,
        )
    if np.isnan(lag):
        return HeldLoad(
            None,
            f"fewer than {FEWEST} requests came to an end: too few to tell whether the queue grew",
            lag,
        )
    return HeldLoad(True, None, lag)


def growth(blocks: Sequence[Requests]) -> tuple[float, bool]:
    """The slope of latency by scheduled time, a mean over blocks, and whether it is a queue's."""
    return growth_of([_stays(block) for block in blocks])


def growth_of(stays: Sequence[tuple[Floats, Floats]]) -> tuple[float, bool]:
    """`growth` from the scheduled time and the time to the end of each block's requests, s."""
    fits = [_slope(at, took) for at, took in stays]
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


def behind_arrivals(blocks: Sequence[Requests]) -> str | None:
    """Why the server did not keep up although latency did not rise, None where nothing says so.

    A server that works at all its requests together answers an early one late, since later ones
    take from it, and catches up when nothing more arrives. Then fewer requests end before the last
    arrival than would if latency did not hang on the time: for each request, the share of the
    block's latencies that fit between it and the last arrival.
    """
    missing, waiting, n = [], [], 0
    for at, took in (_stays(block) for block in blocks):
        if len(at) < 3:
            continue
        left = at.max() - at
        expected = float(np.searchsorted(np.sort(took), left, side="right").sum()) / len(took)
        missing.append(expected - float((took <= left).sum()))
        waiting.append(len(at) - expected)
        n += len(at)
    if n < FEWEST:
        return None
    deficit, count = float(np.sum(missing)), len(missing)
    if count >= FEWEST_BLOCKS:
        chance = float(stdtrit(count - 1, CERTAIN)) * float(np.std(missing, ddof=1)) * sqrt(count)
    else:  # as far as the number in flight behind a single server, the widest, differs by chance
        chance = CHANCE * sqrt(float(np.sum(np.multiply(waiting, np.add(waiting, 1)))))
    if deficit <= max(BEHIND_SHARE * n, chance):
        return None
    ended = n - float(np.sum(waiting)) - deficit
    return (
        f"the server fell behind and caught up once nothing more arrived: {ended:.0f} of {n} "
        f"requests ended before the last arrival, where {ended + deficit:.0f} would have if "
        "latency did not depend on the time"
    )


def too_short(blocks: Sequence[Requests]) -> str | None:
    """Why the windows are too short for an answer, None if they are not.

    Where answers take longer than half of the time in which requests arrive, most of what becomes
    of a queue lies behind the last arrival. Latencies that do not hang on the time (Kruskal and
    Wallis over the quarters of the blocks, 1 %) still say that there was none.
    """
    stays = [(at, took) for at, took in map(_stays, blocks) if len(at) >= 3]
    if not stays:
        return None
    span = float(np.mean([np.ptp(at) for at, _ in stays]))
    typical = float(np.mean(np.concatenate([took for _, took in stays])))
    if typical <= OUTLASTS * span:
        return None
    levels = [took - took.mean() for _, took in stays]
    quarters = [
        np.minimum((at - at.min()) / max(float(np.ptp(at)), 1e-9) * 4, 3).astype(int)
        for at, _ in stays
    ]
    groups = [
        np.concatenate([level[q == k] for level, q in zip(levels, quarters, strict=True)])
        for k in range(4)
    ]
    groups = [group for group in groups if len(group)]
    apart = float(np.ptp([group.mean() for group in groups]))
    if apart <= APART * typical or kruskal_p(groups) > 1 - CERTAIN:
        return None
    return (
        f"the blocks are too short to tell: requests arrived for {span:.1f} s a block and an "
        f"answer took {typical:.1f} s, more or less by when in the block it was asked; write "
        "longer stages"
    )


def _stays(requests: Requests) -> tuple[Floats, Floats]:
    """Scheduled time and time to the end, in s, of requests that were served or met a deadline."""
    waited = np.array(
        [f is not None and f.startswith("timeout_") for f in requests.failure], dtype=np.bool_
    )
    took = (requests.done - requests.scheduled) / 1e3
    known = (requests.ok | waited) & ~np.isnan(took)
    return requests.scheduled[known] / 1e3, took[known]


def _slope(at: Floats, took: Floats) -> tuple[float, float, int]:
    """Least squares: slope, standard error and number of points, 0 points if no line fits."""
    x = at - at.mean() if len(at) else at
    spread = float(np.dot(x, x))
    if len(at) < 3 or spread == 0:
        return 0.0, 0.0, 0
    slope = float(np.dot(x, took)) / spread
    rest = took - took.mean() - slope * x
    return slope, sqrt(float(np.dot(rest, rest)) / (len(at) - 2) / spread), len(at)
