"""Races of simulated variants: false departures, false SHIPs, and the blocks that are saved.

Each look judges by the functions that judge a real race. A variant's latencies are lognormal; its
limit is on the mean. What is common to all variants (the prompts, the machine's mood) is drawn once
a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import astuple, dataclass
from functools import partial
from math import exp, log, log1p, sqrt

import numpy as np
from scipy.special import ndtri, stdtrit

from benchmarks.decision.stages import against, requests, stage
from benchmarks.decision.verdicts import verdict
from foundation.arrays import Floats
from results.decision.elimination import Compare, Standings, departures
from results.decision.judging import judge_slo
from results.decision.looks import LookPlan
from results.decision.objectives import ObjectiveSpec, Tails, outcome_of
from results.decision.rivals import MARGIN, RaceCriteria, Rival, Worse, worse_in_everything
from results.measures.steady_state import StageData
from results.race import Departure, ErrorShares
from results.statistics.intervals import t_bounds
from results.summary import Estimate, Outcome, VariantVerdict

MEDIAN_MS = 100.0
KNOWN = Estimate(value=0.0, n=1)


@dataclass(frozen=True)
class Field:
    """The variants of a race: the mean latency of each over its limit, 1 at the limit.

    `sigma`: how far a variant's own requests spread, in logarithms; `common`: the part of a request
    that all variants share. `own_mood`, `mood`: how far a variant's blocks differ, and those of all
    together. `relative`: the limit is relative to the first variant, which is the baseline.
    `more`: the numbers of blocks at which a run until it is decided is judged again. `p95`: the
    limit is on the 95th percentile instead of the mean.
    """

    name: str
    over: Sequence[float]
    blocks: int = 8
    each: int = 50
    sigma: float = 0.5
    common: float = 0.0
    own_mood: float = 0.0
    mood: float = 0.0
    relative: bool = False
    more: tuple[int, ...] = ()
    p95: bool = False

    @property
    def plan(self) -> LookPlan:
        """The looks of its race."""
        return LookPlan(self.blocks, len(self.over), self.more)

    @property
    def spec(self) -> ObjectiveSpec:
        """The limit on the mean latency."""
        spread = self.sigma**2 + self.common**2 + self.own_mood**2 + self.mood**2
        over_median = sqrt(spread) * float(ndtri(0.95)) if self.p95 else spread / 2
        limit = 1.0 if self.relative else MEDIAN_MS * exp(over_median)
        key = "latency_p95" if self.p95 else "latency_mean"
        return ObjectiveSpec(key, "slo", key, key, "ms", "lower", limit, "", self.relative)

    @property
    def has_choice(self) -> bool:
        """Whether some keep the limit and others do not, or are slower."""
        return min(self.over) < 1 and len(set(self.over)) > 1

    def draw(self, rng: np.random.Generator) -> Floats:
        """Latencies (variants, blocks, requests), ms."""
        size = (len(self.over), self.plan.last, self.each)
        logs = self.sigma * rng.standard_normal(size)
        logs += self.common * rng.standard_normal(size[1:])
        logs += self.own_mood * rng.standard_normal((*size[:2], 1))
        logs += self.mood * rng.standard_normal((size[1], 1))
        return np.asarray(MEDIAN_MS * np.array(self.over)[:, None, None] * np.exp(logs))


@dataclass(frozen=True)
class Outcomes:
    """What one race, or the share of many, came to.

    `shipped`: a variant ships that does not keep its limit. `left`: one left that keeps its limit,
    or that is not worse than its rival. `refused`: the share of the variants that keep their limit
    and are called DON'T SHIP. `saved`: the share of blocks. `same`: the choice is that of the full
    design.
    """

    shipped: float
    left: float
    refused: float
    saved: float
    same: float


@dataclass
class _Run:
    """One race. `latencies`: (variants, blocks, requests); `means`: of each variant and block."""

    field: Field
    latencies: Floats
    means: Floats

    def stage(self, arm: int, blocks: int) -> StageData:
        """The first blocks of a variant."""
        return stage([requests(block) for block in self.latencies[arm, :blocks]])

    def _outcome(self, arm: int, blocks: int, tails: Tails) -> Outcome:
        """The product's, unless t over the blocks, which is never wider, leaves it open already."""
        spec = self.field.spec
        centre, numbers = self._of_blocks(arm, blocks)
        limit = log(spec.limit) if spec.relative or self.field.p95 else spec.limit
        t = t_bounds(centre, numbers, tails.optimistic, tails.pessimistic)
        if t.low <= limit <= t.high:
            return "unsettled"
        ours = self.stage(arm, blocks)
        relative = against(ours, self.stage(0, blocks)) if spec.relative else None
        return outcome_of(spec, judge_slo(spec, ours, KNOWN, relative, tails))

    def _of_blocks(self, arm: int, blocks: int) -> tuple[float, Floats]:
        """The value that an objective is on, and its blocks'; in logarithms unless it is a mean."""
        if self.field.p95:
            latencies = self.latencies[arm, :blocks]
            pooled = float(np.log(np.percentile(latencies, 95)))
            return pooled, np.log(np.percentile(latencies, 95, axis=1))
        means = self.means[arm, :blocks]
        numbers = np.log(means / self.means[0, :blocks]) if self.field.relative else means
        return float(np.mean(numbers)), numbers

    def verdict(self, arm: int, blocks: int, errors: ErrorShares | None) -> VariantVerdict:
        """The verdict on a variant after so many blocks. `errors` None: without a race."""
        tails = Tails.in_race(errors, 1) if errors else Tails.of(1)
        is_judged = arm > 0 or not self.field.relative
        return verdict(
            str(arm),
            self._outcome(arm, blocks, tails) if is_judged else "unsettled",
            self.field.spec.metric,
            is_baseline=arm == 0,
            is_judged=is_judged,
        )

    def race(self) -> tuple[list[Departure], list[VariantVerdict], list[int]]:
        """Who left, the verdicts in the end, and the blocks of each variant."""
        plan, arms = self.field.plan, len(self.field.over)
        departed: list[Departure] = []
        verdicts: dict[str, VariantVerdict] = {}
        counts = dict.fromkeys(map(str, range(arms)), plan.last)
        for block in plan.departures:
            left = [arm for arm in range(arms) if str(arm) not in verdicts]
            if not left:
                break
            errors = plan.at_look(block, plan.candidates(departed))
            looked = {str(arm): self.verdict(arm, block, errors) for arm in left}
            baseline = "0" if self.field.relative else None
            standings = Standings(list(looked.values()), block, plan.blocks, baseline)
            leaving = departures(standings, self._compare(block))
            verdicts |= {each.variant: looked[each.variant] for each in leaving}
            counts |= {each.variant: block for each in leaving}
            departed += leaving
        at_end = plan.at_end(plan.candidates(departed))
        final = [
            verdicts.get(str(arm)) or self.verdict(arm, plan.last, at_end) for arm in range(arms)
        ]
        return departed, final, list(counts.values())

    def outcomes(self) -> Outcomes:
        """What the race came to, against the truth and against the full design."""
        departed, final, counts = self.race()
        over, most = self.field.over, self.field.blocks
        keeping = [arm for arm, ratio in enumerate(over) if ratio <= 1]
        false = [
            each
            for each in departed
            if (each.reason == "breaks" and over[int(each.variant)] <= 1)
            or (each.than is not None and over[int(each.variant)] <= over[int(each.than)])
        ]
        same = True
        if self.field.has_choice:
            whole = [self.verdict(arm, most, None) for arm in range(len(over))]
            same = self._choice(final, counts) == self._choice(whole, [most] * len(over))
        refused = [final[arm].decision == "DON'T SHIP" for arm in keeping]
        return Outcomes(
            shipped=any(
                each.decision == "SHIP" and ratio >= 1 and (arm or not self.field.relative)
                for arm, (each, ratio) in enumerate(zip(final, over, strict=True))
            ),
            left=bool(false),
            refused=float(np.mean(refused)) if refused else 0.0,
            saved=1 - sum(counts) / (self.field.plan.last * len(over)),
            same=same,
        )

    def _choice(self, verdicts: Sequence[VariantVerdict], counts: Sequence[int]) -> float | None:
        """The true mean of the one to ship, over its limit; None if none ships."""
        ready = [arm for arm, each in enumerate(verdicts) if each.decision == "SHIP"]
        means = {arm: float(np.mean(self.means[arm, : counts[arm]])) for arm in ready}
        return self.field.over[min(ready, key=means.__getitem__)] if ready else None

    def _compare(self, block: int) -> Compare:
        plan = self.field.plan
        open_ = _maybe_worse(np.log(self.means[:, :block]), plan.worse())

        def compare(ours: str, other: str) -> list[Worse]:
            if not open_[int(ours), int(other)]:
                return []
            both = [Rival(name, self.stage(int(name), block), {}) for name in (ours, other)]
            criteria = RaceCriteria([self.field.spec.metric], {}, None, {})
            return worse_in_everything(both[0], both[1], criteria, plan.worse(), plan.shares())

        return compare


def _maybe_worse(logs: Floats, tail: float) -> np.ndarray:
    """Which variant may be no better than which in mean latency, before anything else is asked."""
    k = logs.shape[1]
    changes = logs[:, None] - logs[None]
    error = np.std(changes, axis=2, ddof=1) / np.sqrt(k)
    return np.asarray(np.mean(changes, axis=2) + error * stdtrit(k - 1, tail) > -log1p(MARGIN))


def field_outcomes(field: Field, seed: int, runs: range) -> Outcomes:
    """The means over some seeded races."""
    results = []
    for i in runs:
        latencies = field.draw(np.random.default_rng((seed, i)))
        run = _Run(field, latencies, np.mean(latencies, axis=2))
        results.append(astuple(run.outcomes()))
    return Outcomes(*(float(share) for share in np.mean(results, axis=0)))


FIELDS = (
    Field("24 alike, at the limit", [1.0] * 24),
    Field("24 alike, at the limit, blocks differ by 20 %", [1.0] * 24, own_mood=0.2, mood=0.2),
    Field("24: 12 at the limit, 12 at twice the limit", [1.0] * 12 + [2.0] * 12),
    Field("4 alike, at the limit", [1.0] * 4),
    Field("4 alike, at the limit, blocks differ by 20 %", [1.0] * 4, own_mood=0.2, mood=0.2),
    Field("4 alike, at the limit, until decided", [1.0] * 4, more=(12, 18, 27)),
    Field("12 at a limit relative to the baseline", [1.0] * 12, common=0.3, relative=True),
    Field(
        "12 alike, at the limit of p95, blocks differ by 20 %", [1.0] * 12, own_mood=0.2, p95=True
    ),
    Field("4 settings: 50, 65, 80, 95 % of the limit", [0.5, 0.65, 0.8, 0.95], 10, sigma=0.3),
    Field("12: 9 at twice the limit, 3 at half of it", [2.0] * 9 + [0.5] * 3, 10),
)


def races(runs: int, pool: Executor, allowed: float) -> bool:
    """Prints a row for each field; True if every row passes."""
    print(
        f"\n{runs:,} races a row, blocks of 50 requests, lognormal latencies, a limit on their "
        "mean where no other is named; 8 blocks, and 10 in the last two rows.\n\n"
        "| variants | one ships falsely | one leaves falsely | a good one called DON'T SHIP | "
        "must be | blocks saved | choice of the full design | |\n|---|---|---|---|---|---|---|---|"
    )
    good, step = True, max(runs // 8, 1)
    parts = [range(start, min(start + step, runs)) for start in range(0, runs, step)]
    for field in FIELDS:
        outcomes = list(pool.map(partial(field_outcomes, field, 11), parts))
        weights = [len(part) for part in parts]
        mean = Outcomes(
            *np.average([astuple(each) for each in outcomes], axis=0, weights=weights).tolist()
        )
        kept = max(mean.shipped, mean.left, mean.refused) <= allowed
        good = good and kept
        shares = " | ".join(f"{x * 100:.1f} %" for x in (mean.shipped, mean.left, mean.refused))
        print(
            f"| {field.name} | {shares} | <= {allowed * 100:.1f} % | {mean.saved * 100:.0f} % | "
            f"{f'{mean.same * 100:.0f} %' if field.has_choice else ''} | "
            f"{'ok' if kept else 'MISSED'} |",
            flush=True,
        )
    return good
