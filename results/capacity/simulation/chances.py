"""Random loads that differ in nothing but their rate, their lengths or the model that serves them.

Common random numbers: what two loads have in common cancels out when they are compared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from foundation.arrays import Floats
from results.capacity.demand.demand import Demand


@dataclass(frozen=True)
class Chances:
    """The random numbers of n requests: `waits` (n,) exponential of mean 1, `places` (n,) in 0..1.

    A request takes the place of that quantile in a demand that is sorted by length.
    """

    waits: Floats
    places: Floats

    @staticmethod
    def of(requests: int, rng: np.random.Generator) -> Chances:
        """Random numbers for so many requests."""
        return Chances(rng.exponential(size=requests), rng.random(requests))

    def load(self, lengths: Demand, rate: float) -> Demand:
        """Requests of these lengths that arrive by chance, `rate` a second in the long run."""
        taken = lengths.take((self.places * len(lengths)).astype(np.int64))
        return replace(taken, arrival=np.cumsum(self.waits) / rate)


def by_length(demand: Demand) -> Demand:
    """The requests in the order of their output tokens, then of their input tokens."""
    return demand.take(np.lexsort((demand.input_tokens, demand.output_tokens)))


def resampled(demand: Demand, rng: np.random.Generator) -> Demand:
    """As many requests, drawn from these with replacement (bootstrap), by length."""
    return by_length(demand.take(rng.integers(len(demand), size=len(demand))))
