"""Simulated measurements whose truth is known: what the decision is tested against.

A run is interleaved blocks of two variants (AB/BA) on one machine, whose mood is an autocorrelated process through all of it.
Latencies are lognormal (sigma 0.5, median 100 ms) around that mood.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp

import numpy as np
from scipy.signal import lfilter
from scipy.special import ndtri

from results.requests import Floats
from results.stats import (
    TAIL,
    hangs_together_reason,
    order_statistic_bounds,
    paired_log_bounds,
    percentile_bounds,
)

SIGMA = 0.5
MEDIAN_MS = 100.0


@dataclass(frozen=True)
class Machine:
    """`autocorrelation` from request to request, and `drift`: how much slower it is at the end of the run than at its start."""

    autocorrelation: float = 0.0
    drift: float = 0.0


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
    latency = MEDIAN_MS * np.exp(SIGMA * mood(machine, n, rng)) * (1 + machine.drift * np.arange(n) / n)
    slots = latency.reshape(blocks, 2, per_block)
    base, variant = [], []
    for i, (first, second) in enumerate(slots):
        base.append(first if i % 2 == 0 else second)
        variant.append(factor * (second if i % 2 == 0 else first))
    return base, variant


def true_percentile(q: float) -> float:
    """Of the latencies of a machine without drift, in ms."""
    return MEDIAN_MS * exp(SIGMA * float(ndtri(q / 100)))


def called_different(base: Sequence[Floats], variant: Sequence[Floats], q: float) -> bool:
    """Whether the interval of the relative difference of the q-th percentile leaves out zero."""
    ratio = float(np.percentile(np.concatenate(variant), q) / np.percentile(np.concatenate(base), q))
    ours, theirs = ([float(np.percentile(block, q)) for block in blocks] for blocks in (variant, base))
    bounds = paired_log_bounds(ours, theirs, ratio, TAIL, TAIL)
    return not bounds.low <= 1 <= bounds.high


def called_holding(blocks: Sequence[Floats], q: float, limit: float) -> bool:
    """Whether the q-th percentile is shown to keep the limit, as a verdict would have it."""
    return hangs_together_reason(blocks, q) is None and percentile_bounds(blocks, q, 0.05, 0.05).high <= limit


def share(comparisons: int, seed: int, happens: Callable[[np.random.Generator], bool]) -> float:
    """In what share of seeded comparisons something happens."""
    return sum(happens(np.random.default_rng((seed, i))) for i in range(comparisons)) / comparisons


def false_differences(machine: Machine, q: float, comparisons: int, seed: int, blocks: int = 10, per_block: int = 500) -> float:
    return share(comparisons, seed, lambda rng: called_different(*run(machine, blocks, per_block, 1.0, rng), q))


def power(q: float, factor: float, comparisons: int, seed: int, blocks: int = 10, per_block: int = 500) -> float:
    return share(comparisons, seed, lambda rng: called_different(*run(Machine(), blocks, per_block, factor, rng), q))


def false_ships(machine: Machine, q: float, comparisons: int, seed: int, blocks: int = 10, per_block: int = 500) -> float:
    """The variant's percentile is exactly its limit."""
    limit = true_percentile(q)
    return share(comparisons, seed, lambda rng: called_holding(run(machine, blocks, per_block, 1.0, rng)[1], q, limit))


SHAPES: dict[str, tuple[Callable[[np.random.Generator, int], Floats], Callable[[float], float]]] = {
    "lognormal": (lambda rng, n: np.exp(SIGMA * rng.standard_normal(n)), lambda p: exp(SIGMA * float(ndtri(p)))),
    "Pareto": (lambda rng, n: 1 + rng.pareto(2.5, n), lambda p: (1 - p) ** (-1 / 2.5)),
    # One request in five takes the slow way: 100 +- 10 ms or 300 +- 30 ms.
    "bimodal": (
        lambda rng, n: np.where(rng.random(n) < 0.8, rng.normal(100, 10, n), rng.normal(300, 30, n)),
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
    """How often the 95 % interval of the q-th percentile of n independent requests holds the truth."""
    draw, quantile = SHAPES[shape]
    truth = quantile(q / 100)

    def covers(rng: np.random.Generator) -> bool:
        bounds = order_statistic_bounds(np.sort(draw(rng, n)), q, TAIL, TAIL)
        return bounds.low <= truth <= bounds.high

    return share(comparisons, seed, covers)
