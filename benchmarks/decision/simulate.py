"""Simulated measurements whose truth is known: what the decision is tested against.

A run is interleaved blocks of two variants (AB/BA) on one machine. The machine's mood is an
autocorrelated process. Latencies are lognormal (sigma 0.5, median 100 ms) around that mood.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, sqrt

import numpy as np
from scipy.signal import lfilter
from scipy.special import ndtri

from foundation.arrays import Floats
from results.comparison.resolution import blocks_needed, spread_of
from results.statistics.block_percentiles import percentile_bounds
from results.statistics.intervals import (
    TAIL,
    bootstrap_bounds,
    order_statistic_bounds,
    paired_log_bounds,
)

SIGMA = 0.5
MEDIAN_MS = 100.0


@dataclass(frozen=True)
class Machine:
    """The mood of a machine.

    `autocorrelation`: from request to request. `drift`: the slowdown from start to end of the run.
    `block_effect`: the standard deviation of the blocks' levels, in logarithms.
    """

    autocorrelation: float = 0.0
    drift: float = 0.0
    block_effect: float = 0.0


def mood(machine: Machine, n: int, rng: np.random.Generator) -> Floats:
    """A stationary AR(1) process (n,) of variance 1."""
    phi = machine.autocorrelation
    noise = rng.standard_normal(n) * np.sqrt(1 - phi**2)
    noise[0] = rng.standard_normal()
    return np.asarray(lfilter([1.0], [1.0, -phi], noise))


def run(
    machine: Machine, blocks: int, per_block: int, factor: float, rng: np.random.Generator
) -> tuple[list[Floats], list[Floats]]:
    """Latencies in ms, by block, of a baseline and of a variant that is `factor` times as slow."""
    n = 2 * blocks * per_block
    latency = (
        MEDIAN_MS * np.exp(SIGMA * mood(machine, n, rng)) * (1 + machine.drift * np.arange(n) / n)
    )
    slots = latency.reshape(blocks, 2, per_block)
    if machine.block_effect:
        slots = slots * np.exp(machine.block_effect * rng.standard_normal((blocks, 2, 1)))
    base, variant = [], []
    for i, (first, second) in enumerate(slots):
        base.append(first if i % 2 == 0 else second)
        variant.append(factor * (second if i % 2 == 0 else first))
    return base, variant


def true_percentile(machine: Machine, q: float) -> float:
    """Of the latencies of a machine without drift, in ms."""
    return MEDIAN_MS * exp(sqrt(SIGMA**2 + machine.block_effect**2) * float(ndtri(q / 100)))


def percentiles(blocks: Sequence[Floats], q: float) -> Floats:
    """The q-th percentile of each block."""
    return np.asarray(np.percentile(np.array(blocks), q, axis=1))


def called_different(base: Floats, variant: Floats, looks: int = 1) -> bool:
    """True if the interval of the relative difference excludes zero, from paired blocks."""
    ratio = exp(float(np.mean(np.log(variant / base))))
    bounds = paired_log_bounds(variant.tolist(), base.tolist(), ratio, TAIL / looks, TAIL / looks)
    return not bounds.low <= 1 <= bounds.high


def called_holding(blocks: Sequence[Floats], q: float, limit: float, looks: int = 1) -> bool:
    """Whether the q-th percentile is shown to keep the limit, as a verdict would have it."""
    return percentile_bounds(blocks, q, 0.05 / looks, 0.05 / looks).high <= limit


def share(comparisons: int, seed: int, happens: Callable[[np.random.Generator], bool]) -> float:
    """In what share of seeded comparisons something happens."""
    return sum(happens(np.random.default_rng((seed, i))) for i in range(comparisons)) / comparisons


def pair_of_runs(
    machine: Machine, q: float, factor: float, blocks: int, per_block: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Percentiles by block of a baseline, and of a variant that is `factor` times as slow."""
    base, variant = run(machine, blocks, per_block, factor, rng)
    return percentiles(base, q), percentiles(variant, q)


def differences(
    machine: Machine,
    q: float,
    comparisons: int,
    seed: int,
    factor: float = 1.0,
    blocks: int = 10,
    per_block: int = 500,
) -> float:
    """How often a difference is called: false ones at a factor of 1, else the power."""
    return share(
        comparisons,
        seed,
        lambda rng: called_different(*pair_of_runs(machine, q, factor, blocks, per_block, rng)),
    )


def differences_when_peeking(
    machine: Machine, q: float, comparisons: int, seed: int, blocks: int = 10, per_block: int = 500
) -> float:
    """The same for equal variants with a look after every block from the second on."""

    def called(rng: np.random.Generator) -> bool:
        base, variant = pair_of_runs(machine, q, 1.0, blocks, per_block, rng)
        return any(
            called_different(base[:k], variant[:k], looks=blocks - 1) for k in range(2, blocks + 1)
        )

    return share(comparisons, seed, called)


def differences_by_bootstrap(
    machine: Machine, q: float, comparisons: int, seed: int, blocks: int = 10, per_block: int = 500
) -> float:
    """Of equal variants, by the bootstrap of the pairs of blocks that stands beside t."""

    def called(rng: np.random.Generator) -> bool:
        base, variant = pair_of_runs(machine, q, 1.0, blocks, per_block, rng)
        bounds = bootstrap_bounds(np.log(variant / base), TAIL, TAIL)
        return not bounds.low <= 0 <= bounds.high

    return share(comparisons, seed, called)


def planned_power(
    machine: Machine,
    q: float,
    change: float,
    pilot: int,
    comparisons: int,
    seed: int,
    per_block: int = 500,
) -> float:
    """How often a change is shown with the number of blocks that a pilot's estimate asks for."""

    def called(rng: np.random.Generator) -> bool:
        base, variant = run(machine, pilot, per_block, 1 + change, rng)
        spread = spread_of(list(zip(variant, base, strict=True)), f"p{q:g}")
        assert spread is not None
        blocks = min(blocks_needed(spread, change), 500)
        return called_different(*pair_of_runs(machine, q, 1 + change, blocks, per_block, rng))

    return share(comparisons, seed, called)


def false_ships(
    machine: Machine, q: float, comparisons: int, seed: int, blocks: int = 10, per_block: int = 500
) -> float:
    """How often a variant is called to hold whose percentile is exactly its limit."""
    limit = true_percentile(machine, q)
    return share(
        comparisons,
        seed,
        lambda rng: called_holding(run(machine, blocks, per_block, 1.0, rng)[1], q, limit),
    )


def false_ships_when_peeking(
    machine: Machine, q: float, comparisons: int, seed: int, blocks: int = 10, per_block: int = 500
) -> float:
    """False "holds" at the limit, with a look after every block."""
    limit = true_percentile(machine, q)

    def shipped(rng: np.random.Generator) -> bool:
        variant = run(machine, blocks, per_block, 1.0, rng)[1]
        return any(
            called_holding(variant[:k], q, limit, looks=blocks - 1) for k in range(2, blocks + 1)
        )

    return share(comparisons, seed, shipped)


@dataclass(frozen=True)
class Queue:
    """An open loop on one server that is empty when a block begins.

    `load`: arrival rate over service rate. `mood`: as above.
    """

    load: float
    mood: float = 0.0

    def block(self, n: int, rng: np.random.Generator) -> Floats:
        """Latencies of n requests, in service times."""
        arrived = np.cumsum(rng.exponential(1 / self.load, n))
        service = np.exp(0.3 * rng.standard_normal(n) - 0.045 + self.mood * rng.standard_normal())
        # Lindley's recursion, unrolled: the maximum over (an earlier arrival + the work since).
        work = np.cumsum(service)
        return np.asarray(np.maximum.accumulate(arrived - (work - service)) + work - arrived)


def false_ships_of_a_queue(
    queue: Queue, q: float, comparisons: int, seed: int, blocks: int = 10, per_block: int = 50
) -> float:
    """How often a variant "holds" whose percentile over many blocks is exactly its limit."""
    rng = np.random.default_rng((seed, comparisons))
    limit = float(np.percentile([queue.block(per_block, rng) for _ in range(5000)], q))
    return share(
        comparisons,
        seed,
        lambda rng: called_holding([queue.block(per_block, rng) for _ in range(blocks)], q, limit),
    )


SHAPES: dict[str, tuple[Callable[[np.random.Generator, int], Floats], Callable[[float], float]]] = {
    "lognormal": (
        lambda rng, n: np.exp(SIGMA * rng.standard_normal(n)),
        lambda p: exp(SIGMA * float(ndtri(p))),
    ),
    "Pareto": (lambda rng, n: 1 + rng.pareto(2.5, n), lambda p: (1 - p) ** (-1 / 2.5)),
    # One request in five takes the slow way: 100 +- 10 ms or 300 +- 30 ms.
    "bimodal": (
        lambda rng, n: np.where(
            rng.random(n) < 0.8, rng.normal(100, 10, n), rng.normal(300, 30, n)
        ),
        lambda p: _bimodal_quantile(p),
    ),
}


def _bimodal_quantile(p: float) -> float:
    from scipy.special import ndtr

    low, high = 0.0, 1000.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        below = 0.8 * ndtr((middle - 100) / 10) + 0.2 * ndtr((middle - 300) / 30)
        low, high = (middle, high) if below < p else (low, middle)
    return low


def coverage(shape: str, q: float, n: int, comparisons: int, seed: int) -> float:
    """Coverage of the 95 % interval of the q-th percentile of n independent requests."""
    draw, quantile = SHAPES[shape]
    truth = quantile(q / 100)

    def covers(rng: np.random.Generator) -> bool:
        bounds = order_statistic_bounds(np.sort(draw(rng, n)), q, TAIL, TAIL)
        return bounds.low <= truth <= bounds.high

    return share(comparisons, seed, covers)
