"""How often the check for a growing queue flags stable stages, and overloaded ones.

Simulated open queues begin empty: Poisson or constant arrivals, k servers, and work that is
exponential, lognormal (coefficient of variation 1) or constant. Requests are served first come
first served, or by processor sharing: k servers share all requests, each on one server at most.
`python -m benchmarks.steadiness.run [runs]` prints the share of runs that `held` flags. Behind a
slash stands the share with blocks that are too short to tell.
"""

from __future__ import annotations

import heapq
import sys
from dataclasses import dataclass

import numpy as np

from foundation.arrays import Floats
from foundation.run.records import RequestRecord
from foundation.run.requests import Requests, requests_of
from results.measures.saturation import held

LOADS = (0.5, 0.8, 0.9, 1.1, 1.2, 1.5)
SIZES = ((26, 8), (60, 1), (60, 10), (200, 1), (200, 5), (600, 1), (600, 5))


@dataclass(frozen=True)
class Server:
    """`k` servers. `arrivals`: poisson or constant; `work`: its distribution, mean 1 s.

    `shared`: processor sharing instead of first come first served.
    """

    k: int
    arrivals: str
    work: str
    shared: bool = False

    def __str__(self) -> str:
        return f"{self.k}, {self.arrivals}, {self.work}{', shared' if self.shared else ''}"


SERVERS = (
    Server(1, "poisson", "exponential"),
    Server(8, "poisson", "exponential"),
    Server(8, "poisson", "lognormal"),
    Server(8, "constant", "lognormal"),
    Server(4, "constant", "constant"),
    Server(32, "poisson", "lognormal"),
    Server(1, "poisson", "exponential", shared=True),
    Server(8, "poisson", "lognormal", shared=True),
    Server(8, "constant", "lognormal", shared=True),
)


def block(server: Server, load: float, n: int, rng: np.random.Generator) -> Requests:
    """n requests of a queue that begins empty."""
    gap = 1 / (load * server.k)
    gaps = rng.exponential(gap, n) if server.arrivals == "poisson" else np.full(n, gap)
    at, work = np.cumsum(gaps), _work(server.work, n, rng)
    ends = _ends_shared(at, work, server.k) if server.shared else _ends_in_turn(at, work, server.k)
    stamps = np.rint(np.column_stack([at, ends]) * 1e9).astype(int).tolist()
    return requests_of(
        RequestRecord(
            id=i, prompt_id="q", scheduled_ns=due, sent_ns=due, chunk_ns=[end], done_ns=end
        )
        for i, (due, end) in enumerate(stamps)
    )


def _ends_in_turn(at: Floats, work: Floats, k: int) -> Floats:
    """First come first served by `k` servers."""
    free, ends = [0.0] * k, np.empty(len(at))
    for i, (due, length) in enumerate(zip(at, work, strict=True)):
        ends[i] = max(due, heapq.heappop(free)) + length
        heapq.heappush(free, float(ends[i]))
    return ends


def _ends_shared(at: Floats, work: Floats, k: int) -> Floats:
    """Serves each of m requests at min(1, k/m): equal speeds, so they end in order of work left."""
    ends, under_way = np.empty(len(at)), list[tuple[float, int]]()
    now = done = 0.0  # `done`: what a request served since the beginning would have got
    for i, due in enumerate([*at, np.inf]):
        while under_way:
            speed = min(1.0, k / len(under_way))
            end = now + (under_way[0][0] - done) / speed
            if end > due:
                done, now = done + (due - now) * speed, due
                break
            done, last = heapq.heappop(under_way)
            ends[last] = now = end
        if i < len(at):
            now = due
            heapq.heappush(under_way, (done + work[i], i))
    return ends


def _work(kind: str, n: int, rng: np.random.Generator) -> Floats:
    if kind == "constant":
        return np.ones(n)
    if kind == "exponential":
        return rng.exponential(1.0, n)
    sigma = np.sqrt(np.log(2))
    return np.asarray(np.exp(sigma * rng.standard_normal(n) - sigma**2 / 2))


def main(runs: int) -> None:
    """Prints the table of flagged shares."""
    rng = np.random.default_rng(1)
    print(f"share of {runs} runs said to have a growing queue / to be too short to tell\n")
    print("| servers, arrivals, work | load |" + "".join(f" {b} x {n} |" for n, b in SIZES))
    print("|---|---|" + "---|" * len(SIZES))
    for server in SERVERS:
        for load in LOADS:
            shares = [_shares(server, load, n, b, runs, rng) for n, b in SIZES]
            print(
                f"| {server} | {load:g} |" + "".join(f" {share} |" for share in shares), flush=True
            )


def _shares(
    server: Server, load: float, n: int, blocks: int, runs: int, rng: np.random.Generator
) -> str:
    verdicts = [
        held([block(server, load, n, rng) for _ in range(blocks)], offered=True).value
        for _ in range(runs)
    ]
    flagged, unknown = verdicts.count(False) / runs, verdicts.count(None) / runs
    return f"{flagged:.1%}" + (f" / {unknown:.1%}" if unknown else "")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
