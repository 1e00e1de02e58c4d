"""Whether a variant is shown to be worse than another in everything that is asked.

Two variants are compared over the blocks that both have, pair by pair: times and rates by t over
the blocks' log-ratios, quality and metered costs prompt by prompt. A variant is worse if it is
shown to be so in one number at least, and if it is shown to be no better than by a margin in every
other. Latency, quality and cost are always compared, since they decide between variants that pass.
Variants of the same weights answer alike unless their scores show otherwise. For any other limit
it is enough that the rival is shown to keep it. A share of requests, such as the error rate, is
compared with its limit alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import log, log1p

import numpy as np

from foundation.format import change, points
from results.config import Price
from results.decision.judged_values import too_many_failed
from results.measures.cost import FEWEST_PROMPTS, cost_ratio, is_metered
from results.measures.shares import share_counts
from results.measures.steady_state import StageBlock, StageData
from results.measures.values import Limits, counted, values_in
from results.metrics import RECORDS
from results.statistics.block_ratios import statistic_of
from results.statistics.bounded_means import paired_score_bounds
from results.statistics.intervals import Bounds, exp_or_inf, t_bounds

MARGIN = 0.05
"""A variant that may be better by this share, or by so many points of quality, is no better."""
LATENCY, QUALITY, COST = "latency_mean", "quality", "cost_per_request"
DECIDING = (LATENCY, QUALITY, COST)
"""What decides between variants that pass."""


@dataclass(frozen=True)
class Rival:
    """A variant of a race as it stands: its judged stage, and the mean score of each prompt.

    `weights`: the identity of what it answers with; None if unknown. `keeps`: the times and rates
    whose limits it is shown to keep.
    """

    name: str
    stage: StageData
    scores: Mapping[str, float]
    weights: str | None = None
    keeps: Collection[str] = ()
    _numbers: dict[tuple[str, int], float] = field(default_factory=dict, init=False)

    def number(self, metric: str, block: StageBlock, limits: Limits) -> float:
        """A metric of one of its blocks, 0 where it has none; each is computed once."""
        key = metric, block.number
        if key not in self._numbers:
            self._numbers[key] = _of_block(metric, block, limits)
        return self._numbers[key]


@dataclass(frozen=True)
class RaceCriteria:
    """What a race compares: the metrics of its SLOs, quality, and the price of a request.

    `slos`: times and rates. `shares`: the limits on shares of requests, None where one is relative
    to the baseline. `limits`: what a request may take, which goodput counts by.
    """

    slos: Sequence[str]
    shares: Mapping[str, float | None]
    price: Price | None
    limits: Limits

    def metrics(self, ours: Rival, rival: Rival) -> list[str]:
        """What two variants are compared in."""
        scored = [QUALITY] if ours.scores or rival.scores else []
        costs = [COST] if self.price else []
        return list(dict.fromkeys([LATENCY, *scored, *costs, *self.slos]))


@dataclass(frozen=True)
class Worse:
    """A number in which a variant is shown to be worse. `least`: by how much, at least."""

    label: str
    least: str


@dataclass(frozen=True)
class _Change:
    """By how much a variant is worse than its rival, in a logarithm or in points: two bounds.

    `strict`: for "it is worse", an error shared among all numbers. `plain`: for the rest. `alike`:
    whether the two are the same in this unless shown otherwise.
    """

    metric: str
    strict: Bounds
    plain: Bounds
    alike: bool

    @property
    def is_worse(self) -> bool:
        return self.strict.low > 0

    @property
    def is_no_better(self) -> bool:
        margin = MARGIN if self.metric == QUALITY else log1p(MARGIN)
        return self.plain.high >= 0 and (self.alike or self.plain.low > -margin)

    def worse(self) -> Worse:
        record = RECORDS[self.metric]
        if self.metric == QUALITY:
            return Worse(record.label, points(-self.strict.low))
        log_ratio = self.strict.low if record.better == "lower" else -self.strict.low
        return Worse(record.label, change(exp_or_inf(log_ratio) - 1))


@dataclass(frozen=True)
class _RivalPair:
    """A variant and its rival, with the blocks that both have."""

    ours: Rival
    rival: Rival
    criteria: RaceCriteria
    pairs: Sequence[tuple[StageBlock, StageBlock]]

    def change(self, metric: str, strict: float, plain: float) -> _Change | None:
        """None where the data compare nothing."""
        bounds = {QUALITY: self._quality, COST: self._cost}.get(metric)
        both = [
            bounds(tail) if bounds is not None else self._number(metric, tail)
            for tail in (strict, plain)
        ]
        weights = self.ours.weights
        alike = metric == QUALITY and weights is not None and weights == self.rival.weights
        return _Change(metric, both[0], both[1], alike) if both[0] and both[1] else None

    def _quality(self, tail: float) -> Bounds | None:
        ours, theirs = self.ours.scores, self.rival.scores
        common = sorted(ours.keys() & theirs.keys())
        if not common:
            return None
        return paired_score_bounds(np.array([theirs[p] - ours[p] for p in common]), tail, tail)

    def _cost(self, tail: float) -> Bounds | None:
        price = self.criteria.price
        assert price is not None
        ratio = cost_ratio(self.pairs, price)
        if ratio is None or ratio.n < (FEWEST_PROMPTS if is_metered(price) else 2):
            return None
        ends = ratio.bounds(tail, tail)
        return Bounds(log(ends.low), log(ends.high)) if ends.low > 0 else None

    def _number(self, metric: str, tail: float) -> Bounds | None:
        """The bounds of a time or a rate; None if a block, maybe a rival's worst, lacks it."""
        sides = self.ours, self.rival
        values = np.array(
            [
                [
                    side.number(metric, block, self.criteria.limits)
                    for side, block in zip(sides, both, strict=True)
                ]
                for both in self.pairs
            ]
        )
        if not np.all(values > 0):
            return None
        logs = np.log(values[:, 0] / values[:, 1])
        worse = logs if RECORDS[metric].better == "lower" else -logs
        return t_bounds(float(np.mean(worse)), worse, tail, tail)


def worse_in_everything(
    ours: Rival, rival: Rival, criteria: RaceCriteria, tail: float, shares_tail: float
) -> list[Worse]:
    """The numbers in which a variant is shown to be worse than a rival, none if it is not worse.

    `tail`: the probability of being wrong about the two. `shares_tail`: that of being wrong about
    the shares that the rival keeps.
    """
    theirs = {block.number: block for block in rival.stage.blocks if len(block.requests)}
    pairs = [(b, theirs[b.number]) for b in ours.stage.blocks if b.number in theirs]
    both = _RivalPair(ours, rival, criteria, [pair for pair in pairs if len(pair[0].requests)])
    if len(both.pairs) < 2 or too_many_failed(rival.stage):
        return []
    if not _keeps_shares(rival.stage, criteria.shares, shares_tail):
        return []
    metrics, worse = criteria.metrics(ours, rival), []
    for metric in metrics:
        shown = both.change(metric, tail / len(metrics), tail)
        if shown is not None and shown.is_worse:
            worse.append(shown.worse())
        elif metric not in DECIDING and metric in rival.keeps:
            continue
        elif shown is None or not shown.is_no_better:
            return []
    return worse


def _keeps_shares(stage: StageData, shares: Mapping[str, float | None], tail: float) -> bool:
    """Whether so many requests without a single one against it show each limit to be kept.

    If the share were at its limit, they would all be good with a probability of (1 - limit)^n.
    """
    for metric, limit in shares.items():
        events, n = share_counts(metric, stage)
        if limit is None or events or (1 - limit) ** n > tail / len(shares):
            return False
    return True


def _of_block(metric: str, block: StageBlock, limits: Limits) -> float:
    if RECORDS[metric].kind == "rate":
        return counted([block], limits)[metric]
    family, _, statistic = metric.rpartition("_")
    values = values_in(block, family)
    return statistic_of(statistic)(values) if len(values) else 0.0
