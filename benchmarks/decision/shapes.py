"""Distributions with known means and percentiles: latencies, tokens, scores and differences.

A shape draws an array of any size, whose last two axes are blocks and requests. Truths without a
closed form are computed here, without the product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import exp, sqrt

import numpy as np
from scipy.signal import lfilter
from scipy.stats import lognorm, norm

from foundation.arrays import Floats

Size = tuple[int, ...]
Draw = Callable[[np.random.Generator, Size], Floats]


@dataclass(frozen=True)
class Shape:
    """`draw`, the true mean, and the true percentile by q (0 to 100)."""

    name: str
    draw: Draw
    mean: float
    percentile: Callable[[float], float]


def lognormal(sigma: float, median: float = 100.0, block: float = 0.0, name: str = "") -> Shape:
    """`block`: how far the blocks' levels spread, in logarithms."""
    whole = sqrt(sigma**2 + block**2)

    def draw(rng: np.random.Generator, size: Size) -> Floats:
        levels = block * rng.standard_normal((*size[:-1], 1))
        return np.asarray(median * np.exp(sigma * rng.standard_normal(size) + levels))

    differ = f", blocks differ by {block:.0%}".replace("%", " %") if block else ""
    return Shape(
        name or f"lognormal, sigma {sigma:g}{differ}",
        draw,
        median * exp(whole**2 / 2),
        lambda q: median * exp(whole * float(norm.ppf(q / 100))),
    )


def autocorrelated(rho: float, sigma: float = 0.5, median: float = 100.0) -> Shape:
    """Within a block, request after request."""

    def draw(rng: np.random.Generator, size: Size) -> Floats:
        noise = rng.standard_normal(size) * sqrt(1 - rho**2)
        noise[..., 0] = rng.standard_normal(size[:-1])
        return np.asarray(median * np.exp(sigma * lfilter([1.0], [1.0, -rho], noise, axis=-1)))

    same = lognormal(sigma, median)
    return Shape(f"autocorrelation {rho:g}", draw, same.mean, same.percentile)


def exponential(mean: float = 100.0) -> Shape:
    """Exponential values."""
    return Shape(
        "exponential",
        lambda rng, size: rng.exponential(mean, size),
        mean,
        lambda q: -mean * np.log1p(-q / 100),
    )


def pareto(index: float = 2.5) -> Shape:
    """Pareto values with a heavy tail."""
    return Shape(
        f"Pareto {index:g}",
        lambda rng, size: 100 * (1 + rng.pareto(index, size)),
        100 * index / (index - 1),
        lambda q: 100 * (1 - q / 100) ** (-1 / index),
    )


def rare(share: float, times: float, sigma: float = 0.1, median: float = 100.0) -> Shape:
    """A share of values that are so many times as large as the others."""

    def draw(rng: np.random.Generator, size: Size) -> Floats:
        large = np.where(rng.random(size) < share, times, 1.0)
        return np.asarray(median * large * np.exp(sigma * rng.standard_normal(size)))

    def percentile(q: float) -> float:
        small, large = lognorm(sigma, scale=median), lognorm(sigma, scale=median * times)
        low, high = median / 10, median * times * 10
        for _ in range(200):
            middle = (low + high) / 2
            below = (1 - share) * small.cdf(middle) + share * large.cdf(middle) < q / 100
            low, high = (middle, high) if below else (low, middle)
        return low

    mean = median * exp(sigma**2 / 2) * (1 - share + share * times)
    return Shape(f"{share * 100:g} % {times:g} times as long", draw, mean, percentile)


@dataclass(frozen=True)
class Tokens:
    """Output tokens of a prompt on either side: whole numbers from 1 to `most`."""

    name: str
    draw: Callable[[np.random.Generator, int], tuple[Floats, Floats]]


def tokens(
    name: str,
    sigmas: tuple[float, float],
    medians: tuple[float, float],
    common: float = 0.0,
    most: int = 4096,
) -> Tokens:
    """`common`: the spread, in logarithms, of how long prompts make answers on both sides."""

    def draw(rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
        level = common * rng.standard_normal(n)
        sides = [
            np.clip(np.round(median * np.exp(sigma * rng.standard_normal(n) + level)), 1, most)
            for sigma, median in zip(sigmas, medians, strict=True)
        ]
        return sides[0], sides[1]

    return Tokens(name, draw)


def rare_tokens(share: float = 0.05, times: int = 10) -> Tokens:
    """Token counts of which a small share is `times` as large."""

    def draw(rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
        return np.where(rng.random(n) < share, 20.0 * times, 20.0), np.full(n, 20.0)

    return Tokens(f"{share * 100:g} % of answers {times} times as long", draw)


@cache
def true_means(kind: Tokens) -> tuple[float, float]:
    """By four million draws: known to a tenth of a per cent."""
    ours, theirs = kind.draw(np.random.default_rng(99), 4_000_000)
    return float(np.mean(ours)), float(np.mean(theirs))


@dataclass(frozen=True)
class Levels:
    """Scores, or differences of scores, of a few levels, each with its probability."""

    name: str
    levels: tuple[float, ...]
    shares: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean of the levels."""
        return float(np.dot(self.levels, self.shares))

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        """n levels, drawn independently."""
        return np.asarray(rng.choice(self.levels, n, p=self.shares))
