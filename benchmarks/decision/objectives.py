"""Every kind of objective at its limit: how often the product says "holds", and how often "fails".

The truth lies exactly on the limit, so both are wrong. Each case draws a run with its own
generator. The function that decides in `dyno report` then judges it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.decision.shapes import (
    Levels,
    Shape,
    Tokens,
    true_means,
)
from benchmarks.decision.stages import against, requests, stage
from foundation.run.requests import Requests
from results.config import BudgetConfig, Price
from results.decision.judging import (
    judge_change,
    judge_increase,
    judge_month,
    judge_quality,
    judge_slo,
)
from results.decision.objectives import ObjectiveSpec, Tails, outcome_of
from results.measures.cost import cost_metrics
from results.statistics.bounded_means import paired_score_bounds, score_bounds
from results.statistics.intervals import Bounds, absent, estimate
from results.summary import Judged, Outcome

Rng = np.random.Generator
PRICE = Price(output_per_million=10.0)
HOUR = Price(accelerator_hour=3.6)
HALF = ("ttft", "tpot", "itl")
"""Times whose truth is half a latency: answers come half at half of it, half at its end."""


@dataclass(frozen=True)
class Case:
    """One row: a kind of objective, the shape and size of the data, and a run at its limit.

    `must`: the largest rate of either wrong decision; for power, the smallest rate of "holds".
    """

    kind: str
    shape: str
    data: str
    judged: Callable[[Rng], tuple[ObjectiveSpec, Judged]]
    power: float | None = None

    def outcomes(self, runs: int, seed: int) -> dict[Outcome, float]:
        """The share of each outcome among seeded runs."""
        outcomes = [outcome_of(*self.judged(np.random.default_rng((seed, i)))) for i in range(runs)]
        return {
            outcome: outcomes.count(outcome) / runs for outcome in ("holds", "fails", "unsettled")
        }


def slo(metric: str, limit: float, relative: bool = False) -> ObjectiveSpec:
    """An SLO on one metric."""
    return ObjectiveSpec(metric, "slo", metric, metric, "ms", "lower", limit, "", relative)


def floor(limit: float, relative: bool = False) -> ObjectiveSpec:
    """A lower limit on quality."""
    return ObjectiveSpec(
        "quality", "quality", "quality", "quality", "share", "higher", limit, "", relative
    )


def budget(key: str, limit: float, relative: bool = False) -> ObjectiveSpec:
    """A limit on cost."""
    return ObjectiveSpec(key, "budget", key, key, "$", "lower", limit, "", relative)


def sized(blocks: int, each: int) -> str:
    """The size of the data as the table shows it."""
    return f"{blocks} block{'s' if blocks > 1 else ''} of {each}"


def times(
    metric: str,
    shape: Shape,
    blocks: int,
    each: int,
    inside: float = 0.0,
    failing: float = 0.0,
    power: float | None = None,
) -> Case:
    """An absolute limit on a time.

    `inside`: the share by which the truth is better than the limit; `failing`: failed requests.
    """
    statistic = metric.rpartition("_")[2]
    q = None if statistic == "mean" else float(statistic[1:])
    truth = shape.mean if q is None else shape.percentile(q / (1 - failing))
    objective = slo(metric, truth * (1 + inside) * (0.5 if metric.startswith(HALF) else 1))

    def judged(rng: Rng) -> tuple[ObjectiveSpec, Judged]:
        latency = shape.draw(rng, (blocks, each))
        failed = rng.random((blocks, each)) < failing
        run = stage([requests(one, lost) for one, lost in zip(latency, failed, strict=True)])
        return objective, judge_slo(objective, run, absent("not asked"), None, Tails.of(1))

    lost = f", {failing * 100:g} % fail" if failing else ""
    kind = f"{metric.replace('_', ' ')}{_within(inside)}"
    return Case(kind, shape.name + lost, sized(blocks, each), judged, power)


def ratio(
    metric: str,
    ours: Shape,
    theirs: Shape,
    blocks: int,
    each: int,
    inside: float = 0.0,
    power: float | None = None,
) -> Case:
    """A limit relative to the baseline, which is the true ratio."""
    statistic = metric.rpartition("_")[2]
    values = [
        s.mean if statistic == "mean" else s.percentile(float(statistic[1:]))
        for s in (ours, theirs)
    ]
    objective = slo(metric, values[0] / values[1] * (1 + inside), relative=True)

    def judged(rng: Rng) -> tuple[ObjectiveSpec, Judged]:
        sides = [
            stage([requests(one) for one in s.draw(rng, (blocks, each))]) for s in (ours, theirs)
        ]
        return objective, judge_slo(
            objective, sides[0], absent("not asked"), against(sides[0], sides[1]), Tails.of(1)
        )

    kind = f"{metric.replace('_', ' ')} relative to the baseline{_within(inside)}"
    names = ours.name if ours == theirs else f"{ours.name} against {theirs.name}"
    return Case(kind, names, sized(blocks, each), judged, power)


def share(metric: str, p: float, blocks: int, each: int, burst: float = 0.0) -> Case:
    """`burst`: the correlation of two requests of one block, whose share is beta distributed."""
    objective = slo(metric, p)

    def judged(rng: Rng) -> tuple[ObjectiveSpec, Judged]:
        own = (
            rng.beta(p * (1 / burst - 1), (1 - p) * (1 / burst - 1), blocks)
            if burst
            else np.full(blocks, p)
        )
        hit = rng.random((blocks, each)) < own[:, None]
        run = stage([_hit(metric, one) for one in hit])
        value = estimate(float(hit.mean()), Bounds(0.0, 1.0), hit.size)
        return objective, judge_slo(objective, run, value, None, Tails.of(1))

    shape = f"{p * 100:g} %, {f'in bursts (correlation {burst:g})' if burst else 'independent'}"
    return Case(metric.replace("_", " "), shape, sized(blocks, each), judged)


def _hit(metric: str, hit: NDArray[np.bool_]) -> Requests:
    """Requests with some failures, answers cut at their token limit, or answers without text."""
    quick = np.full(len(hit), 50.0)
    if metric == "error_rate":
        return requests(quick, hit)
    if metric == "length_share":
        return requests(quick, finish=["length" if each else "stop" for each in hit])
    return replace(requests(quick), silent=hit)


def relative_share(ours: float, theirs: float, blocks: int, each: int) -> Case:
    """An error rate with a limit relative to the baseline's."""
    objective = slo("error_rate", ours / theirs, relative=True)

    def judged(rng: Rng) -> tuple[ObjectiveSpec, Judged]:
        sides = [
            stage([requests(np.full(each, 50.0), rng.random(each) < p) for _ in range(blocks)])
            for p in (ours, theirs)
        ]
        return objective, judge_slo(
            objective, sides[0], absent("not asked"), against(sides[0], sides[1]), Tails.of(1)
        )

    return Case(
        "error rate relative to the baseline",
        f"{ours * 100:g} % against {theirs * 100:g} %",
        sized(blocks, each),
        judged,
    )


def quality(kind: Levels, n: int, inside: float = 0.0, power: float | None = None) -> Case:
    """Quality at its limit, from n prompts."""
    objective = floor(kind.mean - inside)

    def judged(rng: Rng) -> tuple[ObjectiveSpec, Judged]:
        scores = kind.draw(rng, n)
        value = estimate(float(np.mean(scores)), score_bounds(scores, 0.025, 0.025), n)
        return objective, judge_quality(
            objective, value, {str(i): s for i, s in enumerate(scores)}, Tails.of(1)
        )

    return Case(f"quality{_inside(inside)}", kind.name, f"{n} prompts", judged, power)


def drop(name: str, kind: Levels, n: int, inside: float = 0.0, power: float | None = None) -> Case:
    """`kind`: the variant's score less the baseline's; the limit is its mean."""
    objective = floor(kind.mean - inside, relative=True)

    def judged(rng: Rng) -> tuple[ObjectiveSpec, Judged]:
        changes = kind.draw(rng, n)
        base = np.where(changes < 0, -changes, 0.0)
        sides = [{str(i): s for i, s in enumerate(side)} for side in (base + changes, base)]
        change = estimate(
            float(np.mean(changes)), paired_score_bounds(changes, 0.025, 0.025), n, scale=1.0
        )
        return objective, judge_change(objective, change, (sides[0], sides[1]), None, Tails.of(1))

    return Case(f"{name}{_inside(inside)}", kind.name, f"{n} prompts", judged, power)


def _within(inside: float) -> str:
    return f", {inside * 100:g} % inside its limit" if inside else ""


def _inside(inside: float) -> str:
    return f", {inside * 100:g} points inside its limit" if inside else ""


def month(
    kind: Tokens,
    blocks: int,
    each: int,
    prompts: int,
    inside: float = 0.0,
    power: float | None = None,
) -> Case:
    """Metered cost: each prompt has its own length. Requests repeat the prompts in turn."""
    truth = true_means(kind)[0] * 10e-6
    objective = budget("cost_per_month", truth * 1000 * (1 + inside))
    config = BudgetConfig(price=PRICE, per_month=objective.limit, requests_per_month=1000)

    def judged(rng: Rng) -> tuple[ObjectiveSpec, Judged]:
        lengths = kind.draw(rng, prompts)[0]
        parts = []
        for block in range(blocks):
            at = (block * each + np.arange(each)) % prompts
            parts.append(requests(np.full(each, 50.0), None, lengths[at], [f"q{i}" for i in at]))
        run = stage(parts)
        return objective, judge_month(
            objective,
            cost_metrics(run, absent(""), config)["cost_per_month"],
            run,
            config,
            Tails.of(1),
        )

    words = f", {inside * 100:g} % inside its limit" if inside else ""
    return Case(
        f"cost per month, metered{words}",
        kind.name,
        f"{sized(blocks, each)}, {prompts} prompts",
        judged,
        power,
    )


def increase(
    kind: Tokens, prompts: int, blocks: int = 1, inside: float = 0.0, power: float | None = None
) -> Case:
    """Metered, against the baseline, every prompt once a block."""
    ours, theirs = true_means(kind)
    objective = budget("cost_increase", ours / theirs * (1 + inside) - 1, relative=True)

    def judged(rng: Rng) -> tuple[ObjectiveSpec, Judged]:
        names, answers = [f"q{i}" for i in range(prompts)], kind.draw(rng, prompts)
        sides = [
            stage([requests(np.full(prompts, 50.0), None, a, names) for _ in range(blocks)])
            for a in answers
        ]
        return objective, judge_increase(
            objective, sides[0], against(sides[0], sides[1]), PRICE, Tails.of(1)
        )

    words = f", {inside * 100:g} % inside its limit" if inside else ""
    return Case(f"cost increase, metered{words}", kind.name, f"{prompts} prompts", judged, power)


def hosted(blocks: int, each: int, relative: bool, burst: float = 1.0) -> Case:
    """Self-hosted cost. `burst`: the variance of arrivals in a window over a Poisson process's."""
    truth = 3.6 / 3600 / 10.0
    objective = (
        budget("cost_increase", 0.0, True) if relative else budget("cost_per_month", truth * 1000)
    )
    config = BudgetConfig(price=HOUR, per_month=objective.limit or None, requests_per_month=1000)

    def counts(rng: Rng) -> list[int]:
        if burst == 1:
            return [int(x) for x in rng.poisson(each, blocks)]
        return [int(x) for x in rng.poisson(rng.gamma(each / (burst - 1), burst - 1, blocks))]

    def judged(rng: Rng) -> tuple[ObjectiveSpec, Judged]:
        windows = [requests(np.full(each, 50.0)) for _ in range(blocks)]
        sides = [stage(windows, counts(rng), each / 10.0) for _ in range(2)]
        if relative:
            return objective, judge_increase(
                objective, sides[0], against(sides[0], sides[1]), HOUR, Tails.of(1)
            )
        value = cost_metrics(sides[0], absent(""), config)["cost_per_month"]
        return objective, judge_month(objective, value, sides[0], config, Tails.of(1))

    shape = "Poisson" if burst == 1 else f"{burst:g} times the variance of Poisson"
    return Case(
        f"cost {'increase' if relative else 'per month'}, self-hosted",
        shape,
        sized(blocks, each),
        judged,
    )


def looks(metric: str, shape: Shape, blocks: int, each: int) -> Case:
    """Judged after every block from the second on, until a look decides."""
    truth = (
        shape.mean
        if metric.endswith("mean")
        else shape.percentile(float(metric.rpartition("_p")[2]))
    )
    objective = slo(metric, truth)

    def judged(rng: Rng) -> tuple[ObjectiveSpec, Judged]:
        parts, judgement = [requests(one) for one in shape.draw(rng, (blocks, each))], None
        for k in range(2, blocks + 1):
            judgement = judge_slo(
                objective, stage(parts[:k]), absent("not asked"), None, Tails.of(1, blocks - 1)
            )
            if outcome_of(objective, judgement) != "unsettled":
                break
        assert judgement is not None
        return objective, judgement

    return Case(
        f"{metric.replace('_', ' ')}, a look after every block",
        shape.name,
        sized(blocks, each),
        judged,
    )
