"""What becomes of each request in a simulation, in the words of a journal."""

from __future__ import annotations

from dataclasses import dataclass

from foundation.arrays import Floats, Ints
from results.capacity.model.engine_model import LoadRange


@dataclass(frozen=True)
class Simulated:
    """n requests of a `Demand`, in its order; moments in s on its clock.

    `queued` (n,): in the engine's queue. `scheduled` (n,): first step begins. `first`, `last` (n,):
    the client has the first and the last token. `replica` (n,): who served it. `preemptions` (n,).
    `gaps` (k,): times between tokens that a client sees, s, each `gap_tokens` (k,) times; they are
    of steps since `settled`, before which the replicas fill. Gaps within 0.1 % are one, their mean.
    `delivery`: s from the end of a step until the client has its tokens.
    `reached`: the largest load of a replica.
    """

    queued: Floats
    scheduled: Floats
    first: Floats
    last: Floats
    replica: Ints
    preemptions: Ints
    gaps: Floats
    gap_tokens: Ints
    settled: float
    delivery: float
    reached: LoadRange
