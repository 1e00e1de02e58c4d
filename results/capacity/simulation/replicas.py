"""The replicas of a server behind a router, and which of them serve when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from foundation.arrays import Ints
from results.capacity.demand.demand import NOBODY, Demand

Router = Literal["round robin", "least requests", "prefix affinity"]
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio: it spreads consecutive prefixes evenly (Fibonacci hashing)."""


@dataclass(frozen=True)
class Replicas:
    """`count` replicas, and who chooses one for each request.

    "round robin": in turns. "least requests": the first of those with the fewest requests in their
    engines at the moment that the request comes to a queue. "prefix affinity": the prefix's own
    one, by a hash; requests without a prefix go in turns.
    `changes`: (moment in s, count from then on), in order of time. A replica that is added serves
    `warm_up_s` later, if it is still wanted then. One that is removed ends what it has.
    """

    count: int
    router: Router = "round robin"
    warm_up_s: float = 0.0
    changes: tuple[tuple[float, int], ...] = ()

    def __post_init__(self) -> None:
        counts = (self.count, *(count for _, count in self.changes))
        moments = [moment for moment, _ in self.changes]
        if min(counts) < 1:
            raise ValueError("at least one replica must serve at any time")
        if moments != sorted(moments):
            raise ValueError("changes of the number of replicas must be in the order of time")

    @property
    def most(self) -> int:
        """The most replicas at any moment."""
        return max((self.count, *(count for _, count in self.changes)))

    def serving(self, demand: Demand) -> Ints:
        """How many replicas serve when each request (n,) arrives: the fewest in the warm-up before.

        The first so many of them serve.
        """
        if self.most == 1:
            return np.ones(len(demand), np.int64)
        moments = np.array([-np.inf, *(moment for moment, _ in self.changes)])
        counts = np.array([self.count, *(count for _, count in self.changes)])
        bounds = np.unique(np.concatenate([moments, moments[1:] + self.warm_up_s]))
        ends = np.append(moments[1:], np.inf)
        fewest = [
            counts[(moments <= bound) & (ends > bound - self.warm_up_s)].min() for bound in bounds
        ]
        place = np.searchsorted(bounds, demand.arrival, "right") - 1
        return np.asarray(np.array(fewest, np.int64)[place])

    def assigned(self, demand: Demand) -> Ints | None:
        """The replica of each request (n,); None where the router looks at the engines."""
        if self.most == 1:
            return np.zeros(len(demand), np.int64)
        if self.router == "least requests":
            return None
        serving = self.serving(demand)
        replica = _in_turns(serving)
        if self.router == "prefix affinity":
            hashed = demand.prefix.astype(np.uint64) * _MULTIPLIER >> np.uint64(32)
            own = (hashed % serving.astype(np.uint64)).astype(np.int64)
            replica = np.where(demand.prefix == NOBODY, replica, own)
        return replica


def _in_turns(serving: Ints) -> Ints:
    """0, 1, ... below the number of serving replicas, from 0 again where that number changes."""
    place = np.arange(len(serving))
    begins = np.flatnonzero(np.diff(serving, prepend=-1))
    since = np.repeat(begins, np.diff(begins, append=len(serving)))
    return np.asarray((place - since) % serving)


ONE = Replicas(1)
