"""How often a stage is said to have a growing queue, where it is stable and where it is overloaded.

Simulated open queues that begin empty: Poisson or constant arrivals, k servers, first come first served, work
that is exponential, lognormal (coefficient of variation 1) or constant.
`python -m benchmarks.steadiness.run [runs]` prints the share of runs that `held` flags.
"""

from __future__ import annotations

import heapq
import sys
from dataclasses import dataclass

import numpy as np

from results.held import held
from results.records import RequestRecord
from results.requests import Floats, Requests, requests_of

LOADS = (0.5, 0.8, 0.9, 1.1, 1.2, 1.5)
SIZES = ((60, 1), (60, 10), (200, 1), (200, 5), (600, 1), (600, 5))


@dataclass(frozen=True)
class Server:
    """`k` servers. `arrivals`: poisson or constant; `work`: exponential, lognormal or constant, 1 s on average."""

    k: int
    arrivals: str
    work: str


SERVERS = (
    Server(1, "poisson", "exponential"),
    Server(8, "poisson", "exponential"),
    Server(8, "poisson", "lognormal"),
    Server(8, "constant", "lognormal"),
    Server(4, "constant", "constant"),
    Server(32, "poisson", "lognormal"),
)


def block(server: Server, load: float, n: int, rng: np.random.Generator) -> Requests:
    """n requests of a queue that begins empty."""
    gap = 1 / (load * server.k)
    gaps = rng.exponential(gap, n) if server.arrivals == "poisson" else np.full(n, gap)
    at, work = np.cumsum(gaps), _work(server.work, n, rng)
    free, ends = [0.0] * server.k, np.empty(n)
    for i in range(n):
        ends[i] = max(at[i], heapq.heappop(free)) + work[i]
        heapq.heappush(free, float(ends[i]))
    stamps = np.rint(np.column_stack([at, ends]) * 1e9).astype(int).tolist()
    return requests_of(
        RequestRecord(id=i, prompt_id="q", scheduled_ns=due, sent_ns=due, chunk_ns=[end], done_ns=end)
        for i, (due, end) in enumerate(stamps)
    )


def _work(kind: str, n: int, rng: np.random.Generator) -> Floats:
    if kind == "constant":
        return np.ones(n)
    if kind == "exponential":
        return rng.exponential(1.0, n)
    sigma = np.sqrt(np.log(2))
    return np.asarray(np.exp(sigma * rng.standard_normal(n) - sigma**2 / 2))


def main(runs: int) -> None:
    rng = np.random.default_rng(1)
    print(f"share of {runs} runs said to have a growing queue")
    print(f"{'servers, arrivals, work':32}{'load':>6}" + "".join(f"{f'{b} x {n}':>10}" for n, b in SIZES))
    for server in SERVERS:
        for load in LOADS:
            shares = [
                np.mean([held([block(server, load, n, rng) for _ in range(b)], offered=True).value is False for _ in range(runs)])
                for n, b in SIZES
            ]
            name = f"{server.k}, {server.arrivals}, {server.work}"
            print(f"{name:32}{load:>6g}" + "".join(f"{share:>10.1%}" for share in shares), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
