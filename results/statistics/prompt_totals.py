"""Means of requests whose unit is the prompt: prompts differ more than requests of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from foundation.arrays import Floats
from foundation.run.requests import Requests
from results.statistics.bounded_means import extrapolated_mean_bounds
from results.statistics.intervals import UNBOUNDED, Bounds, exp_or_inf, t_bounds

PromptTotals = Mapping[
    str, tuple[float, int]
]  # The sum of a value over a prompt's requests, and how many they are.


def prompt_totals(
    blocks: Sequence[Requests], values: Callable[[Requests], Floats], failed_too: bool = False
) -> PromptTotals:
    """The totals by prompt, over successful requests that have the value.

    `failed_too`: over failed requests that have it as well.
    """
    place: dict[str, int] = {}
    places = [
        np.array([place.setdefault(p, len(place)) for p in r.prompt_id], dtype=np.int64)
        for r in blocks
    ]
    sums, counts = np.zeros(len(place)), np.zeros(len(place), dtype=np.int64)
    for requests, of in zip(blocks, places, strict=True):
        numbers = values(requests)
        known = ~np.isnan(numbers) & (requests.ok | failed_too)
        sums += np.bincount(of[known], numbers[known], len(place))
        counts += np.bincount(of[known], minlength=len(place))
    return {prompt: (float(sums[i]), int(counts[i])) for prompt, i in place.items() if counts[i]}


def prompt_means(
    blocks: Sequence[Requests], values: Callable[[Requests], Floats]
) -> dict[str, float]:
    """The mean of a per-request value by prompt, over the requests that succeeded and have it."""
    return {prompt: total / n for prompt, (total, n) in prompt_totals(blocks, values).items()}


def totals_of_both(
    ours: Sequence[Requests],
    theirs: Sequence[Requests],
    values: Callable[[Requests], Floats],
    failed_too: bool = False,
) -> tuple[PromptTotals, PromptTotals]:
    """The totals of two sides over their common prompts, answered or not."""
    prompts, also = (
        {prompt for requests in side for prompt in requests.prompt_id} for side in (ours, theirs)
    )
    both = [prompt_totals(side, values, failed_too) for side in (ours, theirs)]
    first, second = (
        {p: total for p, total in side.items() if p in prompts & also} for side in both
    )
    return first, second


@dataclass(frozen=True)
class PromptMean:
    """A mean over requests, and each prompt's pull on it, whose mean is zero.

    The mean is the sum of the values over the number of requests. Both differ from prompt to
    prompt, so this is the linearised ratio of two sums over clusters (W. G. Cochran, "Sampling
    Techniques", 1977, chapter 6).
    """

    value: float
    pulls: Floats


def prompt_mean(totals: PromptTotals, prompts: Sequence[str]) -> PromptMean:
    """The mean over all requests of `totals`; prompts that it lacks pull nothing."""
    sums, counts = np.array(
        [totals.get(prompt, (0.0, 0)) for prompt in prompts], dtype=np.float64
    ).T
    requests = float(counts.sum())
    value = float(sums.sum()) / requests
    return PromptMean(value, (sums - value * counts) * len(prompts) / requests)


def prompt_mean_bounds(totals: PromptTotals, low_tail: float, high_tail: float) -> Bounds:
    """Bounds of a mean over requests of n prompts, by t and `extrapolated_mean_bounds`."""
    mean = prompt_mean(totals, sorted(totals))
    return _mean_bounds(mean.value + mean.pulls, low_tail, high_tail)


def prompt_ratio_bounds(
    ours: PromptTotals, theirs: PromptTotals, low_tail: float, high_tail: float
) -> Bounds:
    """Bounds of the ratio of two such positive means, each prompt paired with itself."""
    prompts = sorted(ours.keys() | theirs.keys())
    mean, base = prompt_mean(ours, prompts), prompt_mean(theirs, prompts)
    if mean.value <= 0 or base.value <= 0:
        return UNBOUNDED
    bounds = _mean_bounds(mean.pulls / mean.value - base.pulls / base.value, low_tail, high_tail)
    return Bounds(
        mean.value / base.value * exp_or_inf(bounds.low),
        mean.value / base.value * exp_or_inf(bounds.high),
    )


def _mean_bounds(values: Floats, low_tail: float, high_tail: float) -> Bounds:
    if len(values) < 2:
        return UNBOUNDED
    bounds = t_bounds(float(np.mean(values)), values, low_tail, high_tail)
    return bounds.widest(extrapolated_mean_bounds(values, low_tail, high_tail))
