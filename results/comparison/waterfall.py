"""Why mean latency differs from the baseline's: the difference of each segment of the time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

import numpy as np

from foundation.arrays import Floats
from foundation.format import quantity, with_error
from results.comparison.pairing import Pairing
from results.measures.steady_state import StageData
from results.measures.waterfall import (
    LABELS,
    LATENCY_SEGMENTS,
    BlockSegments,
    Detail,
    block_segments,
    detail_of,
)
from results.statistics.intervals import TAIL, UNBOUNDED, Bounds, estimate, t_bounds
from results.statistics.unpaired import Welch
from results.summary import Estimate, WaterfallDifference

_ONE_PAIR = "an interval needs at least two pairs of blocks"
_ONE_BLOCK = "an interval needs at least two blocks in each run"
_MICROSECOND = 1e-3
_SMALL = 0.01
_DETAILS = {
    Detail.CLIENT: "by what the client sees",
    Detail.DURATIONS: "by durations inside the server, without moments",
}


Stages = tuple[StageData, StageData]
"""The variant's and the baseline's; of two runs, the later one's and the earlier one's."""
_Change = Callable[[str, float], Estimate]
"""From a segment and the difference of its mean to that with an interval."""


def waterfall_difference(
    pairing: Pairing, stages: Stages, latency: Estimate, names: tuple[str, str]
) -> WaterfallDifference | None:
    """Why mean latency differs, by segment; None where one of the two has no latency.

    `latency`: the difference of mean latency in the table. As there, values are of all requests,
    intervals of the pairs. Both are divided with the detail that both have. The residual is of
    answers without that detail.
    """
    detail = _common_detail(stages)
    pairs = [
        (a, b)
        for block, base in pairing.blocks
        if len(a := block_segments(block, detail)) and len(b := block_segments(base, detail))
    ]

    def change(key: str, value: float) -> Estimate:
        changes = [float(np.mean(_of(key, [a])) - np.mean(_of(key, [b]))) for a, b in pairs]
        if len(changes) < 2:
            return estimate(value, UNBOUNDED, len(changes), _ONE_PAIR)
        return estimate(value, t_bounds(value, changes, TAIL, TAIL), len(changes))

    return _difference(stages, latency, names, change)


def run_difference(stages: Stages, names: tuple[str, str]) -> WaterfallDifference | None:
    """Why mean latency differs between two runs, by segment; None where one has no latency.

    Values are of all requests. Intervals are Welch's t between the blocks, which are no pairs.
    """
    sides = [_segments_of(stage, _common_detail(stages)) for stage in stages]

    def welch(means: Sequence[Sequence[float]], value: float) -> Estimate:
        n = min(map(len, means))
        if n < 2:
            return estimate(value, UNBOUNDED, n, _ONE_BLOCK)
        bounds = Welch.of(means[0], means[1]).bounds(TAIL)
        reach = (bounds.high - bounds.low) / 2
        return estimate(value, Bounds(value - reach, value + reach), n)

    def change(key: str, value: float) -> Estimate:
        return welch([[float(np.mean(_of(key, [b]))) for b in side] for side in sides], value)

    latencies = [[b.latency for b in _segments_of(stage, Detail.CLIENT)] for stage in stages]
    if not all(latencies):
        return None
    ours, theirs = (float(np.mean(np.concatenate(side))) for side in latencies)
    means = [[float(np.mean(block)) for block in side] for side in latencies]
    return _difference(stages, welch(means, ours - theirs), names, change)


def _difference(
    stages: Stages, latency: Estimate, names: tuple[str, str], change: _Change
) -> WaterfallDifference | None:
    detail = _common_detail(stages)
    ours, theirs = (_segments_of(stage, detail) for stage in stages)
    if latency.value is None or not ours or not theirs:
        return None
    segments = {
        key: change(key, float(np.mean(_of(key, ours)) - np.mean(_of(key, theirs))))
        for key in ours[0].keys
        if key in LATENCY_SEGMENTS
    }
    residual = latency.value - sum(each.value or 0.0 for each in segments.values())
    return WaterfallDifference(
        latency=latency,
        segments=segments,
        residual=residual,
        sentence=sentence(names, latency, segments),
        notes=[*_detail_notes(stages, names), *_residual_notes(residual)],
    )


def _common_detail(stages: Stages) -> Detail:
    return min(detail_of(stage.blocks) for stage in stages)


def _segments_of(stage: StageData, detail: Detail) -> list[BlockSegments]:
    """The blocks of a stage that have an answer with this much detail."""
    return [each for block in stage.blocks if len(each := block_segments(block, detail))]


def _of(key: str, blocks: Sequence[BlockSegments]) -> Floats:
    return np.concatenate([block.values[:, block.keys.index(key)] for block in blocks])


def _detail_notes(stages: Stages, names: tuple[str, str]) -> list[str]:
    details = [detail_of(stage.blocks) for stage in stages]
    if details[0] == details[1]:
        return []
    less = min(details)
    return [
        f"{names[details.index(less)]} is known in less detail, so both are divided "
        f"{_DETAILS[less]}"
    ]


def _residual_notes(residual: float) -> list[str]:
    if abs(residual) <= _MICROSECOND:
        return []
    return [
        f"{quantity(residual, 'ms')} of the difference is in no segment: some answers have no "
        "times inside the server"
    ]


def sentence(names: tuple[str, str], latency: Estimate, segments: dict[str, Estimate]) -> str:
    """Which segments make the difference of two variants, and by how much."""
    ours, base = names
    value = latency.value or 0.0
    if latency.low is None or latency.high is None:
        return f"{ours} is {_by(value)} than {base}, without an interval: {latency.reason}"
    parts = {key: each for key, each in segments.items() if _shown(each)}
    by_size = sorted(parts, key=lambda key: -abs(parts[key].value or 0.0))
    if not _shown(latency):
        even = f"{ours} and {base} do not differ in mean latency beyond noise"
        each = [f"{_part(key, parts[key])} {_more(parts[key])}" for key in by_size]
        return f"{even}: {', '.join(each)}" if each else even
    large = {k: each for k, each in parts.items() if abs(each.value or 0.0) >= _SMALL * abs(value)}
    with_it = [
        _part(k, parts[k]) for k in by_size if k in large and (parts[k].value or 0.0) * value > 0
    ]
    against = [
        _part(k, parts[k]) for k in by_size if k in large and (parts[k].value or 0.0) * value <= 0
    ]
    whole = f"{ours} is {_by(value)} than {base}"
    if not parts:
        return f"{whole}; no segment alone differs beyond noise"
    text = f"{whole}: {', '.join(with_it)}" if with_it else whole
    if against:
        text += f"; {', '.join(against)} {'slower' if value < 0 else 'faster'}"
    if len(large) == len(segments):
        return text
    small = "under 1 % of it or " if len(large) < len(parts) else ""
    rest = "the rest" if large else "the change of each segment"
    return f"{text}; {rest} is {small}within noise"


def _shown(change: Estimate) -> bool:
    return (change.low or -inf) > 0 or (change.high or inf) < 0


def _by(value: float) -> str:
    return f"{quantity(abs(value), 'ms')} {'faster' if value < 0 else 'slower'}"


def _more(change: Estimate) -> str:
    return "less" if (change.value or 0.0) < 0 else "more"


def _part(key: str, change: Estimate) -> str:
    assert change.value is not None and change.low is not None and change.high is not None
    error = (change.high - change.low) / 2
    return f"{LABELS[key]} {with_error(abs(change.value), error, 'ms')}"
