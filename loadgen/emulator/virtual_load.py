"""Loads for an engine in virtual time: what is asked of it, and what became of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from foundation.arrays import Floats, Ints

NONE = -1
"""In the place of a prefix or an adapter that a request does not have."""


class AskedLoad(Protocol):
    """n requests in the order of their arrival.

    `arrival` (n,): s from the load's origin. `input_tokens`, `output_tokens` (n,): at least 1.
    `prefix` (n,): the number of the prefix that a request shares with others, whose first
    `prefix_tokens` (n,) are the same. `adapter` (n,): its number. `NONE` where there is none.
    """

    @property
    def arrival(self) -> Floats:
        """When each is sent."""

    @property
    def input_tokens(self) -> Ints:
        """Prompt tokens."""

    @property
    def output_tokens(self) -> Ints:
        """Tokens of the answer."""

    @property
    def prefix(self) -> Ints:
        """The shared prefix."""

    @property
    def prefix_tokens(self) -> Ints:
        """Its length."""

    @property
    def adapter(self) -> Ints:
        """The adapter."""


@dataclass(frozen=True)
class VirtualLoad:
    """An `AskedLoad`."""

    arrival: Floats
    input_tokens: Ints
    output_tokens: Ints
    prefix: Ints
    prefix_tokens: Ints
    adapter: Ints

    @staticmethod
    def of(
        arrival: Sequence[float] | Floats,
        input_tokens: Sequence[int] | Ints,
        output_tokens: Sequence[int] | Ints,
        prefix: Sequence[int] | Ints | None = None,
        prefix_tokens: Sequence[int] | Ints | None = None,
        adapter: Sequence[int] | Ints | None = None,
    ) -> VirtualLoad:
        """Requests, by default without shared prefixes and adapters."""
        n = len(arrival)
        none, nothing = np.full(n, NONE), np.zeros(n, np.int64)
        return VirtualLoad(
            np.asarray(arrival, np.float64),
            np.asarray(input_tokens, np.int64),
            np.asarray(output_tokens, np.int64),
            none if prefix is None else np.asarray(prefix, np.int64),
            nothing if prefix_tokens is None else np.asarray(prefix_tokens, np.int64),
            none if adapter is None else np.asarray(adapter, np.int64),
        )


@dataclass(frozen=True)
class StepTable:
    """The k steps of a load, in order. All arrays (k,).

    `began_ns`, `ended_ns` from the load's origin. `decodes` (D), `kv_tokens` (K), `prefill_tokens`
    (P) and `pairs` (A) are those of `StepCost`. `prompts`: requests with a piece of their prompt.
    `running`, `waiting`: requests that are in the engine and in its queue after the step.
    """

    began_ns: Ints
    ended_ns: Ints
    decodes: Ints
    kv_tokens: Ints
    prompts: Ints
    prefill_tokens: Ints
    pairs: Floats
    running: Ints
    waiting: Ints

    def __len__(self) -> int:
        return len(self.began_ns)


@dataclass(frozen=True)
class ServedLoad:
    """What became of n requests, in the order of the load. Moments in ns from its origin.

    `origin_ns`: the load's origin on the server's clock. `number` (n,): the server's number of each
    request. `queued_ns`: in the engine's queue. `scheduled_ns`: its first step begins.
    `computed_ns` (t,): the ends of the steps that made the tokens, request after request; those of
    request i are `token_start[i]` to `token_start[i + 1]`. A client has a token `after_ns` later.
    `computed_tokens` (n,): all that steps computed for it.
    """

    load: AskedLoad
    origin_ns: int
    after_ns: int
    number: Ints
    arrival_ns: Ints
    queued_ns: Ints
    scheduled_ns: Ints
    computed_ns: Ints
    token_start: Ints
    cached_tokens: Ints
    computed_tokens: Ints
    preemptions: Ints
    steps: StepTable

    def __len__(self) -> int:
        return len(self.number)

    @property
    def first_ns(self) -> Ints:
        """When the client has the first token (n,)."""
        return np.asarray(self.computed_ns[self.token_start[:-1]] + self.after_ns)

    @property
    def last_ns(self) -> Ints:
        """When the client has the last token (n,)."""
        return np.asarray(self.computed_ns[self.token_start[1:] - 1] + self.after_ns)

    @property
    def latency(self) -> Floats:
        """From arrival to the last token (n,), s."""
        return np.asarray((self.last_ns - self.arrival_ns) / 1e9)

    @property
    def ttft(self) -> Floats:
        """From arrival to the first token (n,), s."""
        return np.asarray((self.first_ns - self.arrival_ns) / 1e9)

    @property
    def tpot(self) -> Floats:
        """Seconds a token after the first (n,); NaN for answers of one token."""
        gaps = np.diff(self.token_start) - 1
        time = (self.last_ns - self.first_ns) / 1e9
        tpot = np.full(len(self), np.nan)
        np.divide(time, gaps, out=tpot, where=gaps > 0)
        return tpot
