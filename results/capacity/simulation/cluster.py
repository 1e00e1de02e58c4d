"""The arrays of a simulation: engines, and the requests in them as jobs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foundation.arrays import Floats, Ints

JOB = np.dtype(
    [
        *((name, np.float64) for name in ("queued", "scheduled", "first", "last", "token_at")),
        *((name, np.int64) for name in ("input", "output", "prefix", "prefix_blocks", "adapter")),
        *((name, np.int64) for name in ("prompt", "computed", "due", "preemptions", "replica")),
        *((name, np.int64) for name in ("before", "after", "shared", "entry")),
    ]
)
"""`token_at`: its last token before a preemption. `prompt`: tokens to compute before its next one,
and `computed` of them. `due`: the step of its engine that makes its last token. `before`, `after`:
its neighbours in the list. `shared`: blocks of a prefix in its prompt; `entry`: their prefix.
"""
ENGINE = np.dtype(
    [
        ("clock", np.float64),
        *((name, np.int64) for name in ("step", "running", "decoding", "waiting", "ending")),
        *((name, np.int64) for name in ("kv", "free", "partial", "soonest", "blocked", "loras")),
        *((name, np.int64) for name in ("most_decodes", "most_prefill", "most_kv")),
    ]
)
"""`clock`: the end of the last step. `ending`: jobs that ended in it. `kv`: tokens of the decoding
jobs in the cache. `free`: blocks. `partial`: the job whose prompt is in progress. `soonest`: no job
is due before this step. `blocked`: no waiting job can be admitted before a job ends.
"""
PREFIX = np.dtype([(name, np.int64) for name in ("key", "known", "users", "held")])
"""A prefix in an engine: `known` blocks of it, `held` by its `users`."""


class Rules(NamedTuple):
    """The scheduler's limits, the step time's coefficients, and what is recorded.

    `free`: the step time's free tokens, -1 for None. Steps of more than `above` requests take
    `factor` times their time.
    """

    seqs: int
    budget: int
    block: int
    limited: bool
    chunked: bool
    loras: int
    fixed: float
    per_decode: float
    per_prefill_token: float
    per_kv_token: float
    per_pair: float
    free: int
    above: int
    factor: float
    settled: float


class Cluster(NamedTuple):
    """All engines, their jobs, and what they have done.

    `ends` (2 x replicas, 2): first and last job of each list, running and waiting. `prefixes`: a
    hash table. `adapters` (replicas, adapters): running jobs. `gaps` (2, bins): sum and count.
    `seen` (replicas,): jobs as the router counts them, unchanged until `wake` (replicas,).
    """

    jobs: NDArray[np.void]
    engines: NDArray[np.void]
    ends: Ints
    prefixes: NDArray[np.void]
    adapters: Ints
    gaps: Floats
    seen: Ints
    wake: Floats
    rules: Rules
