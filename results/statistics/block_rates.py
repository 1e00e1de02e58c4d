"""Bounds to decide a rate on, such as goodput, for blocks that fall short of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, inf, log

import numpy as np

from foundation.arrays import Floats
from results.statistics.block_means import lognormal_mean_bounds
from results.statistics.block_shares import block_share_bounds
from results.statistics.bounded_means import extrapolated_mean_bounds
from results.statistics.intervals import UNBOUNDED, Bounds, exp_or_inf, t_bounds


@dataclass(frozen=True)
class BlockRates:
    """What k blocks counted: `counts` (k,) in windows of `seconds` (k,).

    `wholes` (k,): the number of requests among which the counts are; None for other counts.
    """

    counts: Floats
    seconds: Floats
    wholes: Floats | None = None

    @property
    def rate(self) -> float:
        """The counts per second of all windows together."""
        return float(self.counts.sum() / self.seconds.sum())

    @property
    def each(self) -> Floats:
        """The rate of each block (k,)."""
        return np.asarray(self.counts / self.seconds)


def block_rate_bounds(rates: BlockRates, low_tail: float, high_tail: float) -> Bounds:
    """Bounds of the rate, from 0: the widest of several. Unbounded from one block.

    Three are over the blocks' rates: Student's t, `lognormal_mean_bounds` and
    `extrapolated_mean_bounds`. Counts of requests have two more, since their share of all requests
    may be near 1 while a few blocks hide how far others fall below. They are the bounds of that
    share times the rate of all, and the rate of all less `lognormal_mean_bounds` of the others.
    """
    each = rates.each
    if len(each) < 2:
        return UNBOUNDED
    bounds = t_bounds(rates.rate, each, low_tail, high_tail)
    bounds = bounds.widest(lognormal_mean_bounds(each, low_tail, high_tail))
    bounds = bounds.widest(extrapolated_mean_bounds(each, low_tail, high_tail))
    if rates.wholes is not None and rates.wholes.sum() > 0:
        whole = float(rates.wholes.sum() / rates.seconds.sum())
        share = _share_bounds(rates.counts, rates.wholes, low_tail, high_tail)
        bounds = bounds.widest(Bounds(whole * share.low, whole * share.high))
        lost = (rates.wholes - rates.counts) / rates.seconds
        missing = lognormal_mean_bounds(lost, high_tail, low_tail)
        bounds = bounds.widest(Bounds(whole - missing.high, whole - missing.low))
    return Bounds(max(bounds.low, 0.0), bounds.high)


def block_rate_ratio_bounds(
    ours: BlockRates, theirs: BlockRates, low_tail: float, high_tail: float
) -> Bounds:
    """Bounds of one rate over another, whose blocks are paired in order: the widest of several.

    Three are over the log-ratios of paired blocks: t around their mean, t around the ratio of all,
    and `extrapolated_mean_bounds`. If both sides count requests, a fourth joins the bounds of each
    side's share (MOVER: A. Donner, G. Zou, Stat. Methods Med. Res. 21, 2012). Unbounded if a block
    counted nothing.
    """
    if len(ours.counts) < 2 or min(ours.counts.min(), theirs.counts.min()) <= 0:
        return UNBOUNDED
    changes, ratio = np.log(ours.each / theirs.each), log(ours.rate / theirs.rate)
    bounds = t_bounds(ratio, changes, low_tail, high_tail)
    bounds = bounds.widest(t_bounds(float(np.mean(changes)), changes, low_tail, high_tail))
    bounds = bounds.widest(extrapolated_mean_bounds(changes, low_tail, high_tail))
    if ours.wholes is not None and theirs.wholes is not None:
        mine = _log_reach(ours.counts, ours.wholes, low_tail, high_tail)
        other = _log_reach(theirs.counts, theirs.wholes, high_tail, low_tail)
        joined = Bounds(
            ratio - hypot(mine.low, other.high),
            ratio + hypot(mine.high, other.low),
        )
        bounds = bounds.widest(joined)
    return Bounds(exp_or_inf(bounds.low), exp_or_inf(bounds.high))


def _log_reach(counts: Floats, wholes: Floats, low_tail: float, high_tail: float) -> Bounds:
    """How far the bounds of a share lie from it on either side, in logarithms."""
    share = float(counts.sum() / wholes.sum())
    bounds = _share_bounds(counts, wholes, low_tail, high_tail)
    low = log(share / bounds.low) if bounds.low > 0 else inf
    return Bounds(low, log(bounds.high / share))


def _share_bounds(counts: Floats, wholes: Floats, low_tail: float, high_tail: float) -> Bounds:
    some = wholes > 0
    return block_share_bounds(_whole(counts[some]), _whole(wholes[some]), low_tail, high_tail)


def _whole(numbers: Floats) -> Sequence[int]:
    return [int(number) for number in numbers]
