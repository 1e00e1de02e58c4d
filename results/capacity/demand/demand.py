"""The requests that a plan is for: when they arrive, and how long they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from foundation.arrays import Floats, Ints

NOBODY = -1
"""In the place of a prefix or an adapter that a request does not have."""


@dataclass(frozen=True)
class Demand:
    """n requests in the order of their arrival.

    `arrival` (n,): s, from 0. `input_tokens`, `output_tokens` (n,): at least 1. `prefix` (n,): the
    number of the prefix that a request shares with others, and `prefix_tokens` (n,) its length.
    `adapter` (n,): the number of its adapter. Both are `NOBODY` where there is none.
    """

    arrival: Floats
    input_tokens: Ints
    output_tokens: Ints
    prefix: Ints
    prefix_tokens: Ints
    adapter: Ints

    def __len__(self) -> int:
        return len(self.arrival)

    @staticmethod
    def of(arrival: Floats, input_tokens: Ints, output_tokens: Ints) -> Demand:
        """Requests without shared prefixes and adapters."""
        nobody = np.full(len(arrival), NOBODY)
        nothing = np.zeros(len(arrival), np.int64)
        return Demand(arrival, input_tokens, output_tokens, nobody, nothing, nobody)

    @property
    def rate(self) -> float:
        """Requests/s, from the first arrival to the last; 0 for fewer than two requests."""
        if len(self) < 2 or self.arrival[-1] == self.arrival[0]:
            return 0.0
        return float((len(self) - 1) / (self.arrival[-1] - self.arrival[0]))

    def take(self, place: Ints) -> Demand:
        """The requests at `place`, which keeps their order."""
        return Demand(
            self.arrival[place],
            self.input_tokens[place],
            self.output_tokens[place],
            self.prefix[place],
            self.prefix_tokens[place],
            self.adapter[place],
        )

    def at_rate(self, rate: float) -> Demand:
        """The same requests, closer together or further apart, at `rate` requests/s."""
        return replace(self, arrival=self.arrival * (self.rate / rate))

    def poisson(self, rate: float, requests: int, rng: np.random.Generator) -> Demand:
        """Requests drawn from these with replacement, that arrive by chance at `rate` a second."""
        drawn = self.take(rng.integers(len(self), size=requests))
        return replace(drawn, arrival=np.cumsum(rng.exponential(1 / rate, requests)))
