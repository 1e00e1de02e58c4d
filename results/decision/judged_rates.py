"""A floor under a rate, such as goodput or output tokens per second, and what it is decided on."""

from __future__ import annotations

from results.decision.judged_values import FEWEST
from results.decision.objectives import ObjectiveSpec, Tails, outcome_of, undecided
from results.measures.rates import rates_of
from results.measures.steady_state import StageBlock, StageData
from results.measures.throughput import NONE_INSIDE, THROUGHPUT, none_ended_inside
from results.measures.values import Limits
from results.statistics.block_rates import block_rate_bounds, block_rate_ratio_bounds
from results.statistics.intervals import TAIL, Bounds, absent, estimate
from results.summary import Estimate, Judged


def rate_doubt(spec: ObjectiveSpec, stage: StageData, value: Estimate) -> str | None:
    """Why a rate says nothing about its floor at a stage; None where it does.

    `value`: the metric's.
    """
    if value.value is None:
        return value.reason or "not measured"
    if spec.metric in THROUGHPUT and none_ended_inside(stage.blocks):
        return NONE_INSIDE
    if stage.timed < FEWEST:
        return f"a rate needs at least {FEWEST} requests, there are {stage.timed}"
    offered = None if stage.sessions or spec.unit != "requests/s" else stage.offered_rate
    if offered is not None and not spec.relative and spec.limit > offered:
        return (
            f"the load offers {offered:g} requests/s, fewer than the limit asks for; "
            "offer more, or so many at a time (concurrency)"
        )
    return None


def only_offered(spec: ObjectiveSpec, judged: Judged, stage: StageData) -> Judged:
    """A rate of tokens that breaks its floor where the server kept up with an open loop.

    It is the rate of the load, and says nothing of what the server could do.
    """
    kept_up = stage.offered_rate is not None and stage.held.value is True
    if spec.unit != "tokens/s" or not kept_up or outcome_of(spec, judged) != "fails":
        return judged
    reason = (
        f"the server kept up with the {stage.offered_rate:g} requests/s that were offered, "
        "so this is the rate of the load; offer more, or so many at a time (concurrency)"
    )
    return undecided(judged.value, spec.limit if judged.limit is None else judged.limit, reason)


def rate_bounds(metric: str, stage: StageData, limits: Limits, tails: Tails) -> Bounds:
    """The floor is broken below, so the lower bound is the pessimistic one."""
    rates = rates_of(metric, stage.blocks, limits)
    return block_rate_bounds(rates, tails.pessimistic, tails.optimistic)


def paired_rate(
    metric: str, blocks: tuple[list[StageBlock], list[StageBlock]], limits: Limits, tails: Tails
) -> tuple[Estimate, float, Bounds]:
    """Over paired blocks: the rate, the baseline's, and the bounds of the rate in units of it."""
    pairs = [p for p in zip(*blocks, strict=True) if min(b.window_s for b in p) > 0]
    if not pairs:
        return absent("no pair of blocks has a steady window on both sides"), 0.0, Bounds(0, 0)
    ours, theirs = (rates_of(metric, [p[i] for p in pairs], limits) for i in (0, 1))
    value = estimate(
        ours.rate,
        block_rate_bounds(ours, TAIL, TAIL),
        sum(len(p[0].steady) for p in pairs),
    )
    ratio = block_rate_ratio_bounds(ours, theirs, tails.pessimistic, tails.optimistic)
    return value, theirs.rate, Bounds(ratio.low * theirs.rate, ratio.high * theirs.rate)
