"""How far steps of one kind are off their model: what no number of steps makes smaller.

Steps are divided by the requests that decode in them, and by whether a prompt is computed. If the
model is right, each group takes as long as it says, but for chance. An engine whose steps jump at
some number of requests is far off in some group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foundation.arrays import Floats, Ints
from foundation.format import percent
from results.capacity.model.steps import Steps

GROUPS = 8
"""Into how many groups of equal time steps with a prompt, and those without, are divided."""
NAMED = 0.03
"""A note names a group that is further off."""
_FEWEST_SEGMENTS = 3
_CLEARLY = 3.0
"""Standard errors that chance does not reach."""
_OF_INTERVAL = 1.96


@dataclass(frozen=True)
class Misfit:
    """The group that is furthest off: measured over modelled time, less 1; 0 for chance alone.

    `decodes`: the fewest and the most requests that decode in it.
    """

    share: float = 0.0
    decodes: tuple[int, int] = (0, 0)
    with_prompt: bool = False

    @property
    def deviation(self) -> float:
        """The standard deviation of a factor on step times, whose 95 % interval reaches `share`."""
        return abs(self.share) / _OF_INTERVAL

    @property
    def note(self) -> str | None:
        """The group in words, where it is far off."""
        if abs(self.share) < NAMED:
            return None
        low, high = self.decodes
        who = f"{low} to {high} requests" if high > low else f"{low} request{'s'[: low != 1]}"
        what = "that decode and a prompt" if self.with_prompt else "that decode"
        way = "longer" if self.share > 0 else "shorter"
        return (
            f"steps of {who} {what} take {percent(abs(self.share))} {way} than the model says; "
            "every interval is as much wider"
        )


def misfit(steps: Steps, modelled: Floats) -> Misfit:
    """The misfit of steps that should take `modelled` (n,) s."""
    segment = steps.segments()
    worst = Misfit()
    for with_prompt in (False, True):
        rows = np.flatnonzero((steps.prefill_tokens > 0) == with_prompt)
        for group in _groups(steps, rows):
            off = _clearly_off(steps.elapsed[group], modelled[group], segment[group])
            if abs(off) > abs(worst.share):
                decodes = steps.decodes[group]
                worst = Misfit(off, (int(decodes.min()), int(decodes.max())), with_prompt)
    return worst


def _groups(steps: Steps, rows: Ints) -> list[Ints]:
    """`rows` divided by the requests that decode; steps of one number are in one group."""
    if not len(rows):
        return []
    rows = rows[np.argsort(steps.decodes[rows], kind="stable")]
    until = np.cumsum(steps.elapsed[rows]) / steps.elapsed[rows].sum()
    number = np.minimum((until * GROUPS).astype(np.int64), GROUPS - 1)
    decodes = steps.decodes[rows]
    number = number[np.searchsorted(decodes, decodes)]  # of the first step of as many requests
    return [rows[number == each] for each in np.unique(number)]


def _clearly_off(elapsed: Floats, modelled: Floats, segment: Ints) -> float:
    """Measured over modelled time, less 1; 0 where the chance of the segments explains it."""
    time = np.bincount(segment, modelled)
    ratio = np.bincount(segment, elapsed)[time > 0] / time[time > 0]
    if len(ratio) < _FEWEST_SEGMENTS:
        return 0.0
    off = float(elapsed.sum() / modelled.sum()) - 1
    chance = float(np.std(ratio, ddof=1)) / np.sqrt(len(ratio))
    return off if abs(off) > _CLEARLY * chance else 0.0
