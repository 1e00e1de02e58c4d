"""What the data of two runs say of a metric's change, whatever kind of number it is.

Runs share neither hour nor machine, so their blocks are not paired: times, rates and hourly costs
are compared by Welch's t between the blocks. Tokens, metered costs and scores are paired by prompt,
failures counted and tested exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isnan, log
from typing import Literal

import numpy as np

from results.statistics.bounded_means import paired_score_bounds
from results.statistics.intervals import TAIL, Bounds, absent, estimate, exp_or_inf, score_p, t_p
from results.statistics.prompt_totals import PromptTotals, prompt_mean, prompt_ratio_bounds
from results.statistics.unpaired import Counted, Welch, finite, fisher_p, share_change_bounds
from results.summary import Difference, Estimate

SIDE = 0.05
MIN_PROMPTS = 10
_UNBOUNDED = Bounds(-inf, inf)
_LEAST_TAIL, _HALVINGS = 1e-9, 24


@dataclass(frozen=True)
class Evidence:
    """The change of a metric, in its unit, from `before` (its value in the earlier run).

    `interval` holds the true change with 95 %. Each end of `sides` is wrong with at most 5 %: two
    one-sided tests. `p` is the two-sided p-value of no change. Without a change, or where the data
    bound none, `reason` says why. `n` counts what `of` names, in the smaller run: more of it
    narrows the bounds. `test`: what p is of, where the interval does not say it.
    """

    before: float | None
    change: float | None
    interval: Bounds = _UNBOUNDED
    sides: Bounds = _UNBOUNDED
    p: float | None = None
    n: int = 0
    reason: str | None = None
    of: Literal["blocks", "requests", "prompts"] = "blocks"
    test: str = ""

    @property
    def difference(self) -> Difference:
        """As the JSON holds it. Relative to the earlier value where that is above zero."""
        if self.change is None:
            nothing = absent(self.reason or "not measured")
            return Difference(absolute=nothing, relative=nothing)
        absolute = estimate(self.change, self.interval, self.n, self.reason)
        if not self.before or self.before < 0:
            return Difference(
                absolute=absolute, relative=absent(("the earlier value is zero"), self.n), p=self.p
            )
        ends = Bounds(self.interval.low / self.before, self.interval.high / self.before)
        return Difference(
            absolute=absolute,
            relative=estimate(self.change / self.before, ends, self.n, self.reason),
            p=self.p,
        )


def not_comparable(before: Estimate, after: Estimate, names: tuple[str, str]) -> Evidence | None:
    """Why a metric has no change, None where both runs have it."""
    missing = [
        (name, side)
        for name, side in zip(names, (before, after), strict=True)
        if side.value is None
    ]
    if not missing:
        return None
    reasons = dict.fromkeys(
        (f"{name} has none ({side.reason or 'not measured'})") for name, side in missing
    )
    return Evidence(before.value, None, reason="; ".join(reasons))


def by_blocks(
    before: float,
    after: float,
    blocks_before: Sequence[float],
    blocks_after: Sequence[float],
    *,
    paired: bool = False,
) -> Evidence:
    """From a statistic of each block; in logarithms if all are positive, so that it is a ratio.

    `paired`: the i-th blocks of the two runs belong together. `before` and `after` are of the
    pooled requests, which is what is shown: the bounds are stretched to hold their difference.
    """
    old, new = ([x for x in side if not isnan(x)] for side in (blocks_before, blocks_after))
    test = Welch.of_pairs if paired and len(old) == len(new) == len(blocks_before) else Welch.of
    n = min(len(old), len(new))
    if n < 2:
        reason = (
            "one block tells nothing of the spread between blocks; measure at least two blocks in "
            "each run"
        )
        return Evidence(before, after - before, n=n, reason=reason)
    if min(before, after, *old, *new) > 0:
        welch = test([log(x) for x in new], [log(x) for x in old])
        ends = [
            Bounds((exp_or_inf(b.low) - 1) * before, (exp_or_inf(b.high) - 1) * before)
            for b in _both(welch)
        ]
    else:
        welch = test(new, old)
        ends = [Bounds(max(b.low, -before), b.high) for b in _both(welch)]  # no rate is negative
    return _stretched((before, after), ends, welch.change, welch.p, n, "blocks")


def by_prompts(
    before: float, after: float, old: PromptTotals, new: PromptTotals
) -> Evidence | None:
    """From totals of the prompts that both runs asked; None for fewer than `MIN_PROMPTS`."""
    common = sorted(old.keys() & new.keys())
    if len(common) < MIN_PROMPTS:
        return None
    then, now = ({key: side[key] for key in common} for side in (old, new))
    ratios = [prompt_ratio_bounds(now, then, tail, tail) for tail in (TAIL, SIDE)]
    if not all(map(finite, ratios)):
        return None
    ends = [Bounds((ratio.low - 1) * before, (ratio.high - 1) * before) for ratio in ratios]
    means = [prompt_mean(side, common) for side in (now, then)]
    moved = log(means[0].value / means[1].value)
    p = t_p(moved + means[0].pulls / means[0].value - means[1].pulls / means[1].value)
    return _stretched((before, after), ends, moved, p, len(common), "prompts")


def by_counts(old: Counted, new: Counted) -> Evidence:
    """Of two shares of counted requests: exact, or t between the blocks if they come in bursts."""
    before, after = old.total / old.n, new.total / new.n
    interval, sides = (share_change_bounds(new, old, tail) for tail in (TAIL, SIDE))
    exact = fisher_p(new.total, new.n, old.total, old.n)
    n = min(old.n, new.n)
    if not (old.in_bursts or new.in_bursts) or min(len(old.sizes), len(new.sizes)) < 2:
        return Evidence(
            before,
            after - before,
            interval,
            sides,
            exact,
            n,
            of="requests",
            test="Fisher's exact test",
        )
    p = max(exact, Welch.of(new.shares, old.shares).p)
    return Evidence(
        before,
        after - before,
        interval,
        sides,
        p,
        n,
        of="requests",
        test="t between blocks, for it comes in bursts",
    )


def by_scores(before: float, old: Mapping[str, float], new: Mapping[str, float]) -> Evidence:
    """Of mean scores, prompt by prompt, over the prompts that both runs asked.

    McNemar's exact test if each is won, lost or even, else the p-value that the bounds imply.
    """
    common = sorted(old.keys() & new.keys())
    if not common:
        return Evidence(before, None, reason="no prompt was scored in both")
    changes = np.array([new[key] - old[key] for key in common])
    interval, sides = (paired_score_bounds(changes, tail, tail) for tail in (TAIL, SIDE))
    moved = float(np.mean(changes))
    is_whole = bool(np.all(np.isin(changes, (-1.0, 0.0, 1.0))))
    p = (
        score_p(changes)
        if is_whole
        else _p_of(lambda tail: paired_score_bounds(changes, tail, tail))
    )
    return Evidence(before, moved, interval, sides, p, len(common), of="prompts")


def _p_of(bounds: Callable[[float], Bounds]) -> float:
    """The two-sided p-value that bounds imply: twice the smallest tail that leaves out zero."""
    least, most = log(_LEAST_TAIL), log(0.5)
    for _ in range(_HALVINGS):
        middle = (least + most) / 2
        ends = bounds(exp_or_inf(middle))
        least, most = (middle, most) if ends.low <= 0 <= ends.high else (least, middle)
    return 2 * exp_or_inf(most)


def _both(welch: Welch) -> tuple[Bounds, Bounds]:
    return welch.bounds(TAIL), welch.bounds(SIDE)


def _stretched(
    values: tuple[float, float],
    ends: Sequence[Bounds],
    moved: float,
    p: float,
    n: int,
    of: Literal["blocks", "prompts"],
) -> Evidence:
    """Of the earlier and the later value, with bounds that hold their difference.

    `moved` is the change that was tested. If the difference has the other sign, nothing is shown.
    """
    before, after = values
    change = after - before
    interval, sides = (Bounds(min(b.low, change), max(b.high, change)) for b in ends)
    return Evidence(before, change, interval, sides, p if moved * change >= 0 else 1.0, n, of=of)
