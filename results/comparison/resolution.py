"""How many blocks a wanted resolution takes, how long they take, and what the blocks there are can show.

The resolution of a comparison is the change of a metric that it would call a difference (two-sided, 5 %) with a given power. It
follows from how much the log-ratios of paired blocks spread, which a few blocks tell, or the parts of a single one. Only that
spread is looked at, never the difference itself, so these blocks may count in the end (J. Wittes, E. Brittain, "The role of
internal pilot studies in increasing the efficiency of clinical trials", Stat. Med. 9, 1990).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, inf, log, sqrt

import numpy as np
from scipy.special import nctdtrit, stdtrit

from foundation.arrays import Floats
from foundation.format import duration, percent
from foundation.run.journal import read_prompts
from results.comparison.variants import Pairing, pair
from results.config import ResolutionConfig
from results.inputs import RunInputs
from results.measures.measured import Measured, read_measured
from results.measures.values import values_in
from results.metrics import METRICS
from results.statistics.intervals import TAIL, smallest
from results.summary import Resolution

METRIC, POWER = "latency_p95", 0.8
LEAST_PAIRS, PARTS, LEAST_IN_PART = 3, 4, 20
MOST_BLOCKS = 1000


@dataclass(frozen=True)
class Spread:
    """The standard deviation of the log-ratio of one pair of blocks, and the degrees of freedom it is known with."""

    deviation: float
    freedom: int


def spread_of(pairs: Sequence[tuple[Floats, Floats]], statistic: str) -> Spread | None:
    """From pairs of blocks, a value a request. Under three, each is cut into parts that are taken to be independent."""
    pairs = [both for both in pairs if len(both[0]) and len(both[1])]
    parts = 1
    if pairs and len(pairs) < LEAST_PAIRS:
        fewest = min(len(side) for both in pairs for side in both)
        parts = max(2, min(PARTS, fewest // LEAST_IN_PART))
    cut = (
        zip(np.array_split(ours, parts), np.array_split(theirs, parts), strict=True)
        for ours, theirs in pairs
    )
    both = [
        (_statistic(a, statistic), _statistic(b, statistic))
        for block in cut
        for a, b in block
        if len(a) and len(b)
    ]
    ratios = [log(a / b) for a, b in both if a > 0 and b > 0]
    return (
        Spread(float(np.std(ratios, ddof=1)) / sqrt(parts), len(ratios) - 1)
        if len(ratios) > 1
        else None
    )


def _statistic(values: Floats, statistic: str) -> float:
    return (
        float(np.mean(values))
        if statistic == "mean"
        else float(np.percentile(values, float(statistic[1:])))
    )


def smallest_change(spread: Spread, blocks: int, power: float = POWER) -> float:
    """The relative change that so many pairs of blocks, two or more, show with this power.

    The power is meant over what is not known of the spread, which makes it a noncentral t with the spread's own freedom
    (S. A. Julious, R. J. Owen, "Sample size calculations for clinical studies allowing for uncertainty about the variance",
    Pharm. Stat. 5, 2006).
    """
    critical = float(stdtrit(blocks - 1, 1 - TAIL))
    log_change = spread.deviation / sqrt(blocks) * float(nctdtrit(spread.freedom, critical, power))
    return exp(log_change) - 1 if log_change < 700 else inf


def blocks_needed(spread: Spread, wanted: float, power: float = POWER) -> int:
    """How many pairs of blocks show a relative change of `wanted` with this power; 0 where none under a hundred million do."""
    return smallest(2, lambda blocks: smallest_change(spread, blocks, power) <= wanted)


def pairs_spread(pairing: Pairing, metric: str) -> Spread | None:
    """The spread of a time's statistic, such as "latency_p95", between paired blocks; None where too little was measured."""
    name, _, statistic = metric.rpartition("_")
    return spread_of(
        [(values_in(a, name), values_in(b, name)) for a, b in pairing.blocks], statistic
    )


def resolution(
    spread: Spread | None,
    blocks: int,
    names: tuple[str, str],
    wanted: ResolutionConfig | None,
    round_s: float,
) -> Resolution:
    """What `blocks` pairs of blocks show of `names`, a variant and the baseline, and how many it takes to show what is wanted.

    `round_s`: how long a block of every variant takes, 0 where that is not known.
    """
    metric, power = (wanted.metric, wanted.power) if wanted else (METRIC, POWER)
    of = f"{METRICS[metric].label} of {names[0]} against {names[1]}"
    if spread is None:
        sentence = f"{of}: too little was measured to tell how much blocks differ"
        return Resolution(metric=metric, power=power, blocks=blocks, sentence=sentence)
    there = smallest_change(spread, blocks, power) if blocks > 1 else None
    shows = (
        "one block shows no change"
        if there is None
        else f"{blocks} blocks show a change from {percent(there)} on"
    )
    if wanted is None:
        sentence = f"{of}: {shows} (power {power * 100:g} %)"
        return Resolution(
            metric=metric, power=power, blocks=blocks, smallest=there, sentence=sentence
        )
    needed = blocks_needed(spread, wanted.change, power)
    seconds = needed * round_s if needed and round_s else None
    takes = f"about {needed:,} blocks" if needed else "more blocks than can be run"
    takes += f", {duration(seconds)} of load" if seconds else ""
    return Resolution(
        metric=metric,
        power=power,
        blocks=blocks,
        smallest=there,
        wanted=wanted.change,
        needed=needed or None,
        seconds=seconds,
        sentence=f"{of}: {shows} (power {power * 100:g} %); {percent(wanted.change)} takes {takes}",
    )


def round_seconds(measured: Sequence[Measured], stage: str) -> float:
    """How long one block of every variant takes at a stage, from beginning to end; 0 where the journals do not say."""
    spans = [
        [end - begin for begin, end in (b.span for b in m.stages[stage].blocks)]
        for m in measured
        if stage in m.stages
    ]
    return sum(float(np.median(each)) for each in spans if each)


@dataclass(frozen=True)
class Planned:
    """How many blocks of the judged stage to run, and why, in sentences."""

    blocks: int
    sentences: Sequence[str]


def plan_blocks(inputs: RunInputs) -> Planned:
    """The blocks that show what `inputs.resolution` wants of every variant, as far as there is time for them.

    Told by the first `pilot` blocks of a run, so that a run that goes on plans what it planned before. Raises BadInput for a run
    without journals.
    """
    wanted = inputs.resolution
    assert wanted is not None
    measured = read_measured(inputs, read_prompts(inputs.run))
    each = round_seconds(measured, inputs.judged_stage)
    most = max(wanted.pilot, int(wanted.max_time / each)) if each else MOST_BLOCKS
    blocks, sentences = wanted.pilot, []
    for names, pairing in _pairings(inputs, measured, wanted.pilot):
        spread = pairs_spread(pairing, wanted.metric)
        found = resolution(spread, len(pairing.blocks), names, wanted, each)
        sentences.append(found.sentence)
        if spread is None:
            continue
        if (needed := found.needed or MOST_BLOCKS) > most:
            shown = percent(smallest_change(spread, most, wanted.power))
            sentences.append(
                f"{names[0]}: {duration(wanted.max_time)} are enough for {most:,} blocks, which show {shown}"
            )
        blocks = max(blocks, min(needed, most))
    return Planned(blocks, sentences)


def forecast(inputs: RunInputs, blocks: int) -> list[str]:
    """What so many blocks would show of each variant if they were like those of a stored run, and how many it takes."""
    found = resolutions(inputs, read_measured(inputs, read_prompts(inputs.run)), blocks)
    return [each.sentence for each in found.values()]


def _pairings(
    inputs: RunInputs, measured: Sequence[Measured], first: int | None = None
) -> list[tuple[tuple[str, str], Pairing]]:
    """Every variant paired with the baseline at the judged stage, or only the `first` blocks of both; with their names."""
    stages = {
        m.record.name: m.stages[inputs.judged_stage]
        for m in measured
        if inputs.judged_stage in m.stages
    }
    stages = {name: replace(stage, blocks=stage.blocks[:first]) for name, stage in stages.items()}
    base = stages.pop(inputs.baseline, None)
    names = [(name, inputs.baseline) for name in stages]
    return [(both, pair(stages[both[0]], base, both)) for both in names] if base else []


def resolutions(
    inputs: RunInputs, measured: Sequence[Measured], blocks: int | None = None
) -> dict[str, Resolution]:
    """What change of each variant the blocks of the judged stage show, or what `blocks` like them would."""
    each = round_seconds(measured, inputs.judged_stage)
    metric = inputs.resolution.metric if inputs.resolution else METRIC
    return {
        names[0]: resolution(
            pairs_spread(pairing, metric),
            blocks or len(pairing.blocks),
            names,
            inputs.resolution,
            each,
        )
        for names, pairing in _pairings(inputs, measured)
    }
