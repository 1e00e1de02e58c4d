"""From what traffic on one variant costs less than another, in whole replicas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foundation.arrays import Floats
from foundation.format import significant
from results.capacity.plan.capacity_plan import BreakEvenRate
from results.capacity.plan.fleet import ReplicaPrice

REACH = 10.0
"""Costs are compared up to this many times the peak."""
MOST_STEPS = 100_000
_ROUNDING = 1e-9


@dataclass(frozen=True)
class CostLine:
    """What a variant costs an hour against traffic.

    `used`: requests/s of traffic that one replica takes, headroom and bursts off.
    """

    variant: str
    used: float
    spare: int
    price: ReplicaPrice

    def steps(self, up_to: float) -> Floats:
        """The rates (k,) up to which 1, 2, ... replicas suffice."""
        if self.price.replica_hour is None:
            return np.empty(0)
        steps = min(int(up_to / self.used), MOST_STEPS)
        return np.asarray(np.arange(1, steps + 1) * self.used, np.float64)

    def at(self, rates: Floats, inside: Floats) -> Floats:
        """Dollars an hour (k,) at `rates`, with the replicas that `inside` (k,) needs."""
        if self.price.replica_hour is not None:
            replicas = np.ceil(np.round(inside / self.used, 9)) + self.spare
            return np.asarray(replicas * self.price.replica_hour)
        return np.asarray(rates * 3600 * (self.price.request or 0.0))


def break_even_rates(lines: Sequence[CostLine], peak: float) -> list[BreakEvenRate]:
    """The rate from which on one variant costs no more than another, for each two that have one.

    Variants that cost the same at every rate have no entry.
    """
    up_to = peak * REACH
    rows = []
    for i, ours in enumerate(lines):
        for theirs in lines[i + 1 :]:
            for cheap, dear in ((ours, theirs), (theirs, ours)):
                rate = cheaper_from(cheap, dear, up_to)
                if rate is not None:
                    rows.append(_row(cheap.variant, dear.variant, rate, up_to))
                    break
    return rows


def cheaper_from(cheap: CostLine, dear: CostLine, up_to: float) -> float | None:
    """The rate from which on `cheap` costs no more, and somewhere less; None if never."""
    edges = np.unique(np.concatenate([[0.0], cheap.steps(up_to), dear.steps(up_to), [up_to]]))
    left, right = edges[:-1], edges[1:]
    inside = (left + right) / 2
    begin, end = (cheap.at(rates, inside) - dear.at(rates, inside) for rates in (left, right))
    scale = _ROUNDING * float(np.max(dear.at(right, inside), initial=1e-12))
    more = np.flatnonzero((begin > scale) | (end > scale))
    last = int(more[-1]) if len(more) else -1
    if last == len(left) - 1 and end[last] > scale:
        return None
    less = np.flatnonzero((begin < -scale) | (end < -scale))
    if not np.any(less >= last):
        return None
    if last < 0:
        return float(left[less[0]])
    if end[last] > scale:
        return float(right[last])
    return float(left[last] + (right[last] - left[last]) * begin[last] / (begin[last] - end[last]))


def _row(variant: str, instead_of: str, rate: float, up_to: float) -> BreakEvenRate:
    if rate == 0:
        sentence = f"{variant} costs no more than {instead_of} at any traffic, and less at some"
    else:
        sentence = (
            f"from {significant(rate)} requests/s on, {variant} costs no more than {instead_of}, "
            "and less at some rates; below, no less"
        )
    return BreakEvenRate(
        variant=variant, instead_of=instead_of, rate=rate, up_to=up_to, sentence=sentence
    )
