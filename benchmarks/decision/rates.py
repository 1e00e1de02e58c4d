"""Goodput and throughput at their floor: how often the product says "holds", and "fails"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.decision.objectives import Case, Rng, sized
from benchmarks.decision.stages import RATE, against, requests, stage
from foundation.arrays import Floats
from results.decision.judging import judge_slo
from results.decision.objectives import ObjectiveSpec, Tails
from results.measures.steady_state import StageData
from results.statistics.intervals import UNBOUNDED, estimate
from results.summary import Judged

QUICK, SLOW, LIMIT = 50.0, 500.0, 100.0
"""Latencies of an answer that keeps the limit and of one that does not, and the limit, ms."""


@dataclass(frozen=True)
class Kept:
    """Which share of the requests keeps the limit, a value a block."""

    name: str
    mean: float
    draw: Callable[[Rng, int], Floats]


def steady(share: float) -> Kept:
    """The same share of answers in time in every block."""
    return Kept(f"{share * 100:g} % keep it", share, lambda rng, k: np.full(k, share))


def moody(a: float, b: float) -> Kept:
    """Of each block a beta distributed share."""
    mean = a / (a + b)
    name = f"{mean * 100:.0f} % keep it, blocks differ (beta {a:g}, {b:g})"
    return Kept(name, mean, lambda rng, k: rng.beta(a, b, k))


def floor_of(metric: str, limit: float, relative: bool = False) -> ObjectiveSpec:
    """A lower limit on a rate."""
    unit = "tokens/s" if "tokens" in metric else "requests/s"
    return ObjectiveSpec(metric, "slo", metric, metric, unit, "higher", limit, "", relative)


def goodput(
    kept: Kept,
    blocks: int,
    each: int,
    poisson: bool = True,
    base: Kept | None = None,
    inside: float = 0.0,
    power: float | None = None,
) -> Case:
    """`poisson`: arrivals vary by block, with the same seeds on both sides. `base`: baseline."""
    truth = kept.mean / base.mean if base else RATE * kept.mean
    asked = floor_of("goodput", truth * (1 - inside), base is not None)

    def judged(rng: Rng) -> tuple[ObjectiveSpec, Judged]:
        arrivals = rng.poisson(each, blocks) if poisson else np.full(blocks, each)
        sides = [_stage(rng, arrivals, each, side) for side in (kept, base) if side is not None]
        good = sum(int((b.requests.latency <= LIMIT).sum()) for b in sides[0].blocks)
        shown = estimate(good / sides[0].window_s, UNBOUNDED, sides[0].n)
        baseline = against(sides[0], sides[1]) if base else None
        return asked, judge_slo(asked, sides[0], shown, baseline, Tails.of(1), {"latency": LIMIT})

    of = f"{kept.name} against {base.name}" if base else kept.name
    within = f", {inside * 100:g} % inside its limit" if inside else ""
    kind = f"goodput{' relative to the baseline' if base else ''}{within}"
    arrive = "Poisson arrivals" if poisson else "even arrivals"
    return Case(kind, f"{of}; {arrive}", sized(blocks, each), judged, power)


def _stage(rng: Rng, arrivals: np.ndarray, each: int, kept: Kept) -> StageData:
    shares = kept.draw(rng, len(arrivals))
    latencies = [
        np.where(rng.random(n) < share, QUICK, SLOW)
        for n, share in zip(arrivals, shares, strict=True)
    ]
    return stage([requests(one) for one in latencies], window_s=each / RATE)


def throughput(
    metric: str, blocks: int, each: int, burst: float = 1.0, relative: bool = False
) -> Case:
    """In a closed loop. `burst`: the variance of what ends in a window over a Poisson's."""
    tokens = {"requests_per_s": 1.0, "output_tokens_per_s": 50.0, "total_tokens_per_s": 60.0}[
        metric
    ]
    asked = floor_of(metric, 1.0 if relative else RATE * tokens, relative)

    def judged(rng: Rng) -> tuple[ObjectiveSpec, Judged]:
        sides = [_closed(rng, blocks, each, burst, tokens) for _ in range(2 if relative else 1)]
        field = {"requests_per_s": "completed", "output_tokens_per_s": "output_tokens"}
        name = field.get(metric, "total_tokens")
        total = sum(getattr(block, name) for block in sides[0].blocks)
        shown = estimate(total / sides[0].window_s, UNBOUNDED, sides[0].n)
        baseline = against(sides[0], sides[1]) if relative else None
        return asked, judge_slo(asked, sides[0], shown, baseline, Tails.of(1))

    shape = "Poisson" if burst == 1 else f"{burst:g} times the variance of Poisson"
    kind = metric.replace("_", " ") + (" relative to the baseline" if relative else "")
    return Case(kind, shape, sized(blocks, each), judged)


def _closed(rng: Rng, blocks: int, each: int, burst: float, tokens: float) -> StageData:
    level = np.full(blocks, float(each))
    if burst > 1:
        level = rng.gamma(each / (burst - 1), burst - 1, blocks)
    ended = [int(n) for n in rng.poisson(level)]
    run = stage([requests(np.full(each, QUICK)) for _ in ended], ended, each / RATE)
    lengths = [float(tokens * np.mean(rng.lognormal(-0.5, 1.0, max(n, 1))) * n) for n in ended]
    counted = [
        replace(block, output_tokens=total, total_tokens=total)
        for block, total in zip(run.blocks, lengths, strict=True)
    ]
    return replace(run, offered_rate=None, concurrency=8, blocks=counted)
