"""The rows of `objectives`: every kind in several shapes and sizes, at its limit and inside it."""

from __future__ import annotations

from benchmarks.decision import objectives as at
from benchmarks.decision import rates
from benchmarks.decision.objectives import Case
from benchmarks.decision.shapes import (
    Levels,
    autocorrelated,
    exponential,
    lognormal,
    pareto,
    rare,
    rare_tokens,
    tokens,
)

PLAIN, SKEWED, HEAVY = lognormal(0.5), lognormal(1.0), lognormal(1.5)
MOODY, SLOW_FEW = lognormal(0.5, block=0.3), rare(0.05, 10)
GRADES = Levels("five grades", (0.0, 0.25, 0.5, 0.75, 1.0), (0.05, 0.1, 0.15, 0.3, 0.4))
MOSTLY_RIGHT = Levels("1, and one in thirty 0.1", (0.1, 1.0), (1 / 30, 29 / 30))
SELDOM_RIGHT = Levels("0, and one in twenty 0.9", (0.0, 0.9), (0.95, 0.05))
BINARY = Levels("right or wrong", (0.0, 1.0), (0.2, 0.8))
LOSSES = Levels("losses only", (-1.0, 0.0), (0.03, 0.97))
SOME_WON = Levels("won, lost and even", (-1.0, 0.0, 1.0), (0.06, 0.9, 0.04))
CHURN = Levels("many won, many lost", (-1.0, 0.0, 1.0), (0.21, 0.6, 0.19))
GRADED = Levels("graded", (-0.5, -0.1, 0.0, 0.2), (0.05, 0.3, 0.6, 0.05))
SMALL_LOSSES = Levels("small losses, few large ones", (-1.0, -0.05, 0.0), (0.01, 0.3, 0.69))
ALIKE = tokens("lognormal, sigma 1, length by prompt", (0.3, 0.3), (60, 60), common=1.0)
LOOSE = tokens("lognormal, sigma 1", (1.0, 1.0), (60, 60))
WILD = tokens("lognormal, sigma 1.5 against 0.3", (1.5, 0.3), (40, 60))
CALM = tokens("lognormal, sigma 0.3", (0.3, 0.3), (60, 60))
LIMITED = tokens("cut at 256", (1.2, 1.2), (100, 80), common=0.5, most=256)


def at_the_limit() -> list[Case]:
    """Both decisions are wrong here."""
    return [
        *(
            at.times("latency_mean", shape, blocks, each)
            for blocks, each in ((2, 60), (3, 60), (10, 50))
            for shape in (PLAIN, SKEWED, HEAVY, MOODY, SLOW_FEW, pareto(), autocorrelated(0.9))
        ),
        at.times("ttft_mean", exponential(), 5, 60),
        at.times("tpot_mean", SKEWED, 10, 50),
        at.times("itl_mean", MOODY, 10, 50),
        *(
            at.times("latency_p95", shape, 1, 500)
            for shape in (PLAIN, SLOW_FEW, autocorrelated(0.5), autocorrelated(0.9))
        ),
        *(at.times("latency_p95", shape, 2, 250) for shape in (PLAIN, MOODY)),
        *(at.times("latency_p95", PLAIN, 10, 50, failing=share) for share in (0.02, 0.04)),
        at.times("latency_p50", MOODY, 10, 50),
        at.times("latency_p99", PLAIN, 10, 120),
        at.times("ttft_p95", exponential(), 10, 50),
        at.times("tpot_p95", SKEWED, 10, 50),
        at.times("itl_p95", MOODY, 10, 50),
        *(
            at.ratio(metric, PLAIN, PLAIN, blocks, each)
            for metric in ("latency_mean", "latency_p95")
            for blocks, each in ((2, 100), (10, 50))
        ),
        *(
            at.ratio(metric, *sides, 10, 50)
            for metric in ("latency_mean", "latency_p50", "latency_p95")
            for sides in ((SKEWED, lognormal(0.3)), (lognormal(0.3), SKEWED))
        ),
        at.ratio("latency_p95", SLOW_FEW, PLAIN, 5, 60),
        at.ratio("latency_mean", MOODY, MOODY, 5, 60),
        *(
            at.share("error_rate", *of)
            for of in (
                (0.01, 1, 600),
                (0.05, 2, 300),
                (0.01, 10, 60),
                (0.05, 10, 60, 0.01),
                (0.1, 10, 60, 0.05),
            )
        ),
        at.share("length_share", 0.05, 10, 60),
        at.share("empty_rate", 0.02, 10, 60),
        at.relative_share(0.06, 0.04, 10, 60),
        *(
            rates.goodput(kept, blocks, each, poisson)
            for kept, poisson in (
                (rates.steady(0.8), True),
                (rates.steady(0.95), False),
                (rates.moody(9, 3), False),
                (rates.moody(5, 1), True),
            )
            for blocks, each in ((2, 100), (5, 60), (10, 60))
        ),
        *(
            rates.goodput(ours, blocks, each, base=theirs)
            for ours, theirs in (
                (rates.steady(0.8), rates.steady(0.9)),
                (rates.moody(9, 3), rates.moody(9, 3)),
            )
            for blocks, each in ((2, 100), (10, 60))
        ),
        *(
            rates.throughput(metric, blocks, each, burst)
            for metric in ("requests_per_s", "output_tokens_per_s", "total_tokens_per_s")
            for blocks, each, burst in ((2, 100, 1.0), (10, 60, 1.0), (10, 60, 4.0))
        ),
        rates.throughput("output_tokens_per_s", 10, 60, relative=True),
        *(
            at.quality(kind, n)
            for n in (50, 300)
            for kind in (BINARY, GRADES, MOSTLY_RIGHT, SELDOM_RIGHT)
        ),
        *(
            at.drop("quality against the baseline", kind, n)
            for n in (60, 300)
            for kind in (LOSSES, SOME_WON, CHURN, GRADED, SMALL_LOSSES)
        ),
        *(at.drop("probe against the baseline", kind, 100) for kind in (LOSSES, SOME_WON)),
        at.month(LOOSE, 2, 100, 200),
        at.month(LOOSE, 10, 60, 60),
        at.month(WILD, 10, 60, 600),
        at.month(LIMITED, 10, 60, 200),
        at.hosted(2, 100, relative=False),
        at.hosted(10, 60, relative=False),
        at.hosted(10, 60, relative=False, burst=4),
        *(
            at.increase(kind, n)
            for n in (60, 150)
            for kind in (ALIKE, LOOSE, WILD, LIMITED, rare_tokens())
        ),
        at.increase(LOOSE, 100, blocks=3),
        at.hosted(2, 100, relative=True),
        at.hosted(10, 60, relative=True),
        at.looks("latency_mean", SKEWED, 10, 50),
        at.looks("latency_p95", PLAIN, 10, 50),
    ]


def inside_the_limit() -> list[Case]:
    """What holds should be seen to hold, in so many of the runs at least."""
    return [
        at.times("latency_mean", PLAIN, 10, 50, inside=0.12, power=0.8),
        at.times("latency_p95", PLAIN, 10, 50, inside=0.3, power=0.8),
        at.ratio("latency_mean", PLAIN, PLAIN, 10, 50, inside=0.15, power=0.8),
        at.ratio("latency_p95", PLAIN, PLAIN, 10, 50, inside=0.3, power=0.8),
        rates.goodput(rates.steady(0.9), 10, 60, False, inside=0.08, power=0.8),
        at.quality(BINARY, 300, inside=0.07, power=0.8),
        at.quality(GRADES, 300, inside=0.05, power=0.8),
        at.drop("quality against the baseline", SOME_WON, 300, inside=0.06, power=0.8),
        at.drop("quality against the baseline", GRADED, 300, inside=0.03, power=0.8),
        at.month(CALM, 10, 60, 200, inside=0.1, power=0.8),
        at.increase(CALM, 300, inside=0.15, power=0.8),
    ]
