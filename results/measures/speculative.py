"""Speculative decoding: how many of the drafted tokens the model accepted, by its own counters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foundation.arrays import Floats
from results.measures.counter_samples import CounterSamples, Window, increase
from results.statistics.intervals import (
    TAIL,
    UNBOUNDED,
    Bounds,
    absent,
    estimate,
    ratio_bounds,
)
from results.summary import Estimate

SPECULATIVE = ("spec_acceptance", "spec_accepted_length")
_COUNTERS = ("spec_drafts", "spec_draft_tokens", "spec_accepted_tokens")


def speculative_metrics(
    telemetry: CounterSamples | None, windows: Sequence[Window]
) -> dict[str, Estimate]:
    """The share of drafted tokens that were accepted, and the mean tokens of a step.

    A step yields the accepted tokens of its draft and one that the model adds itself. Empty for a
    server that counts no drafts.
    """
    if telemetry is None or np.isnan(telemetry.columns["spec_drafts"]).all():
        return {}
    counted = [[increase(telemetry, each, w) for each in _COUNTERS] for w in windows]
    whole = [[x for x in block if x is not None] for block in counted]
    if not whole or any(len(block) < len(_COUNTERS) for block in whole):
        return dict.fromkeys(SPECULATIVE, absent("its counters have a gap at a block"))
    drafts, drafted, accepted = np.array(whole).T
    return {
        "spec_acceptance": _ratio(accepted, drafted, Bounds(0.0, 1.0)),
        "spec_accepted_length": _ratio(accepted + drafts, drafts, Bounds(1.0, np.inf)),
    }


def _ratio(parts: Floats, wholes: Floats, possible: Bounds) -> Estimate:
    if not wholes.sum() > 0:
        return absent("nothing was drafted in the steady window")
    one = len(parts) < 2
    bounds = UNBOUNDED if one else ratio_bounds(parts, wholes, TAIL, TAIL)
    bounds = Bounds(max(bounds.low, possible.low), min(bounds.high, possible.high))
    reason = "an interval needs at least two blocks" if one else None
    value = float(parts.sum() / wholes.sum())
    return estimate(value, UNBOUNDED if one else bounds, round(float(wholes.sum())), reason)
