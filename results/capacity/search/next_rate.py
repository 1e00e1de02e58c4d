"""Which rate a search tries next: the one after which the fewest probes are expected to remain.

One step is looked ahead. A probe at a rate shows that it holds, that it fails, or nothing, each
with a chance that follows from the guess of the capacity and from how many requests may be sent.
What remains after each is counted in probes: one for each end of the interval that lies too far
from the capacity, and one for each halving of what is not known of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log, sqrt

import numpy as np
from scipy.special import ndtr, ndtri

from foundation.arrays import Floats
from results.capacity.search.bracket import ERROR
from results.capacity.search.posterior import CapacityGuess, RateRange

CANDIDATES = 41
NEAR, FAR = 0.3, 0.7
"""In parts of the target's logarithm: an end as near to the capacity stays, one as far goes."""
_KNOWN = 1 / 3
"""A capacity is known if its standard deviation is this part of the target's logarithm."""
_Z = -float(ndtri(ERROR))


@dataclass(frozen=True)
class Chance:
    """The chances (k, m) that a probe shows its rate to hold and to fail, by curve of a guess."""

    holds: Floats
    fails: Floats


@dataclass(frozen=True)
class Evidence:
    """Independent requests at a rate: `requests` so far, `over` of them over the limit; `more`."""

    over: float
    requests: float
    more: float


def chance(guess: CapacityGuess, rate: float, evidence: Evidence) -> Chance:
    """What a rate is likely to show with `more` requests.

    The bounds are those of `bracket`, approximately (Cornish, Fisher, with a correction for whole
    numbers); the share of the requests to come is normal.
    """
    allowed, shares = guess.limit.allowed, guess.shares_at(rate)
    total = evidence.requests + evidence.more
    mean = (evidence.over + evidence.more * shares) / total
    deviation = np.sqrt(evidence.more * shares * (1 - shares)) / total
    margin = _Z * sqrt(allowed * (1 - allowed) / total) + 0.5 / total
    middle = allowed + (_Z**2 - 1) * (1 - 2 * allowed) / 6 / total
    return Chance(
        ndtr((middle - margin - mean) / deviation), ndtr((mean - middle - margin) / deviation)
    )


def settled(guess: CapacityGuess, rate: float, evidence: Evidence) -> float:
    """The chance that the requests show whether a rate holds."""
    each = chance(guess, rate, evidence)
    return float((guess.weights * (each.holds + each.fails)).sum())


def candidates(ends: RateRange, highest: float) -> list[float]:
    """Rates between two others, even in the logarithm, and `highest` if it is among them."""
    high = min(ends.high, highest)
    steps = (np.arange(CANDIDATES) + 0.5) / CANDIDATES
    rates = np.exp(log(ends.low) + log(high / ends.low) * steps).tolist()
    return [*rates, highest] if ends.high > highest else rates


def next_rate(
    guess: CapacityGuess, ends: RateRange, target: float, tried: Mapping[float, Evidence]
) -> float:
    """The rate of `tried` after which the fewest probes remain.

    `ends`: the rate that holds and the one that fails, or those beyond which nothing is tried.
    `target`: how many times the one end may be the other. `tried`: what is known of each rate
    between the ends, and the most that a probe may add.
    """
    return min(tried, key=lambda rate: _remaining(guess, ends, rate, log(target), tried[rate]))


def _remaining(
    guess: CapacityGuess, ends: RateRange, rate: float, target: float, evidence: Evidence
) -> float:
    """The probes that are expected to remain after one at `rate`."""
    each = chance(guess, rate, evidence)
    after = RateRange(rate, ends.high), RateRange(ends.low, rate), ends
    nothing = 1 - each.holds - each.fails
    parts = [(guess.weights * part).sum(axis=0) for part in (each.holds, each.fails, nothing)]
    # The probe of a rate that holds confirms it; after one that fails a confirmation remains.
    closed = (0.0, 1.0, 0.0)
    return sum(
        float(part.sum()) * (end if log(left.high / left.low) <= target else
                             _probes(guess.logs, part, left, target))
        for part, left, end in zip(parts, after, closed, strict=True)
        if part.sum() > 0
    )  # fmt: skip


def _probes(logs: Floats, likely: Floats, ends: RateRange, target: float) -> float:
    """The probes that remain with these ends, if the capacity's logarithm is as `likely` (m,)."""
    likely = likely / likely.sum()
    lower = float(likely @ _too_far((logs - log(ends.low)) / target))
    upper = float(likely @ _too_far((log(ends.high) - logs) / target))
    mean = float(likely @ logs)
    deviation = float(np.sqrt(likely @ (logs - mean) ** 2))
    unknown = np.log2(1 + deviation / (_KNOWN * target))
    return lower + upper + upper * (1 - lower) + float(unknown)


def _too_far(distance: Floats) -> Floats:
    return np.clip((distance - NEAR) / (FAR - NEAR), 0.0, 1.0)
