"""`dyno compare`, simulated: how often it calls equal runs different, and a worse run no worse.

A run is blocks on one machine with its own mood. The comparison takes ten numbers: percentiles of
latency and TTFT, TPOT, a rate, failures, tokens, metered cost and quality.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.decision.simulate import MEDIAN_MS, SIGMA, Machine, mood
from foundation.arrays import Floats
from results.comparison.stored_runs.evidence import (
    Evidence,
    by_blocks,
    by_counts,
    by_prompts,
    by_scores,
)
from results.comparison.stored_runs.outcomes import Compared, margin_of, outcomes
from results.metrics import METRICS
from results.statistics.intervals import absent
from results.statistics.unpaired import Counted
from results.summary import RunChange

ALLOWED = 0.064
BLOCKS, PER_BLOCK, PROMPTS = 10, 60, 200


@dataclass(frozen=True)
class System:
    """The truth of one system: slowness (a factor), error rate, quality and output tokens.

    `bursts`: the number of blocks in which 30 % of the requests fail as well.
    `spread`: the standard deviation of log latencies.
    """

    slower: float = 1.0
    failing: float = 0.0
    bursts: float = 0.0
    right: float = 0.8
    tokens: float = 20.0
    spread: float = SIGMA


@dataclass(frozen=True)
class Measured:
    """A run: latencies (blocks, requests) in ms, failures by block, tokens and scores by prompt."""

    latency: Floats
    failures: Counted
    tokens: dict[str, tuple[float, int]]
    scores: dict[str, float]


def measured(
    system: System,
    machine: Machine,
    hardness: Floats,
    rng: np.random.Generator,
    blocks: int = BLOCKS,
) -> Measured:
    """`hardness` (prompts,): how easy each prompt is beside the others, the same in every run."""
    n = blocks * PER_BLOCK
    drift = 1 + machine.drift * np.arange(n) / n
    latency = MEDIAN_MS * system.slower * np.exp(system.spread * mood(machine, n, rng)) * drift
    latency = latency.reshape(blocks, PER_BLOCK) * np.exp(
        machine.block_effect * rng.standard_normal((blocks, 1))
    )
    burst = rng.random(blocks) < system.bursts
    failed = rng.binomial(PER_BLOCK, np.minimum(1, system.failing + 0.3 * burst))
    tokens = rng.poisson(system.tokens * np.exp(hardness))
    right = rng.random(PROMPTS) < np.clip(system.right + 0.2 * hardness, 0, 1)
    names = [f"q{i}" for i in range(PROMPTS)]
    return Measured(
        latency,
        Counted.of([(int(count), PER_BLOCK) for count in failed]),
        {name: (float(each), 1) for name, each in zip(names, tokens, strict=True)},
        {name: float(each) for name, each in zip(names, right, strict=True)},
    )


def compared(before: Measured, after: Measured) -> list[RunChange]:
    """Ten numbers, held against one another as `dyno compare` does it."""
    rows = []
    for key, q, share in (
        ("latency_p50", 50, 1.0),
        ("latency_p95", 95, 1.0),
        ("ttft_p50", 50, 0.4),
        ("ttft_p95", 95, 0.4),
    ):
        blocks = [
            np.percentile(side.latency * share, q, axis=1).tolist() for side in (before, after)
        ]
        pooled = [float(np.percentile(side.latency * share, q)) for side in (before, after)]
        rows.append(_compared(key, by_blocks(pooled[0], pooled[1], blocks[0], blocks[1])))
    for key, sign in (("tpot_mean", 1.0), ("requests_per_s", -1.0)):
        blocks = [(side.latency.mean(axis=1) ** sign).tolist() for side in (before, after)]
        rows.append(
            _compared(
                key,
                by_blocks(
                    float(np.mean(blocks[0])), float(np.mean(blocks[1])), blocks[0], blocks[1]
                ),
            )
        )
    rows.append(_compared("error_rate", by_counts(before.failures, after.failures)))
    for key, price in (("output_tokens_mean", 1.0), ("cost_per_request", 2e-6)):
        priced = [
            {name: (total * price, n) for name, (total, n) in side.tokens.items()}
            for side in (before, after)
        ]
        means = [float(np.mean([total for total, _ in side.values()])) for side in priced]
        evidence = by_prompts(means[0], means[1], priced[0], priced[1])
        assert evidence is not None
        rows.append(_compared(key, evidence))
    quality = float(np.mean(list(before.scores.values())))
    rows.append(_compared("quality", by_scores(quality, before.scores, after.scores)))
    return outcomes(rows)


def _compared(key: str, evidence: Evidence) -> Compared:
    unknown = absent("simulated")
    margin = margin_of(key, key == "error_rate")
    return Compared("a", None, key, METRICS[key], unknown, unknown, evidence, margin)


def share(
    runs: int,
    system: System,
    other: System,
    machine: Machine,
    outcomes_: Sequence[str],
    key: str | None,
    seed: int,
    blocks: int = BLOCKS,
) -> float:
    """The share of simulated pairs in which the number `key` (or any) has one of the outcomes."""
    rng, hits = np.random.default_rng(seed), 0
    for _ in range(runs):
        hardness = 0.3 * rng.standard_normal(PROMPTS)
        before, after = (measured(each, machine, hardness, rng, blocks) for each in (system, other))
        changes = compared(before, after)
        hits += any(
            change.outcome in outcomes_ and key in (None, change.metric) for change in changes
        )
    return hits / runs


def rows(runs: int) -> Iterator[tuple[str, str, float, str, bool]]:
    """What is simulated, of what, the share of comparisons, what must hold, and whether it does."""
    allowed, same = f"<= {ALLOWED:.1%}", System()
    alike: dict[str, tuple[System, Machine, int]] = {
        "independent": (same, Machine(), BLOCKS),
        "three blocks": (same, Machine(), 3),
        "autocorrelation 0.9": (same, Machine(0.9), BLOCKS),
        "drift of 50 %": (same, Machine(drift=0.5), BLOCKS),
        "blocks that differ by 30 %": (same, Machine(block_effect=0.3), BLOCKS),
        "3 % fail": (replace(same, failing=0.03), Machine(), BLOCKS),
        "failures in bursts, one block in five": (replace(same, bursts=0.2), Machine(), BLOCKS),
    }
    for name, (system, machine, blocks) in alike.items():
        rate = share(runs, system, system, machine, ("worse", "better"), None, 11, blocks)
        yield (
            "two runs alike, any of ten numbers called different",
            name,
            rate,
            allowed,
            rate <= ALLOWED,
        )
    passed = ("equivalent", "no worse", "better")
    calm = replace(same, spread=0.1)
    for key, margin in (("latency_p50", 0.05), ("latency_p95", 0.1), ("tpot_mean", 0.05)):
        rate = share(runs, calm, replace(calm, slower=1 + margin), Machine(), passed, key, 12)
        yield "worse by its margin, called no worse", key, rate, allowed, rate <= ALLOWED
    for key, other in (
        ("error_rate", replace(same, failing=0.02)),
        ("output_tokens_mean", replace(same, tokens=21.0)),
        ("quality", replace(same, right=0.75)),
    ):
        rate = share(runs, replace(same, failing=0.01), other, Machine(), passed, key, 13)
        yield "worse by its margin, called no worse", key, rate, allowed, rate <= ALLOWED
    rate = share(runs, same, replace(same, failing=0.05), Machine(), ("worse",), "error_rate", 14)
    yield "5 % new failures, called worse", "error_rate", rate, ">= 80 %", rate >= 0.8
    rate = share(runs, same, replace(same, slower=1.2), Machine(), ("worse",), "latency_p50", 15)
    yield "20 % slower, called worse", "latency_p50", rate, ">= 80 %", rate >= 0.8
    rate = share(runs, calm, calm, Machine(), passed, "latency_p95", 16)
    yield "two calm runs alike, settled", "latency_p95", rate, ">= 80 %", rate >= 0.8
