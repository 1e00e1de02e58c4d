"""The smallest change that a comparison can show, and the blocks and time that a smaller one takes.

The resolution of a comparison is the change of a metric that it would call a difference (two-sided,
5 %) with a given power. It follows from how much the log-ratios of paired blocks spread, which a
few blocks tell, or the parts of a single one. Only that spread is looked at, never the difference
itself, so these blocks may count in the end (J. Wittes, E. Brittain, "The role of internal pilot
studies in increasing the efficiency of clinical trials", Stat. Med. 9, 1990).
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
from results.comparison.pairing import Pairing, pair
from results.config import ResolutionConfig
from results.inputs import RunInputs
from results.measures.measured import MeasuredVariant, read_measured
from results.measures.values import values_in
from results.metrics import METRICS
from results.statistics.intervals import TAIL, smallest
from results.summary import Resolution

METRIC, POWER = "latency_p95", 0.8
LEAST_PAIRS, PARTS, LEAST_IN_PART = 3, 4, 20
MOST_BLOCKS = 1000


@dataclass(frozen=True)
class PairSpread:
    """The standard deviation of the log-ratio of a pair of blocks, with its degrees of freedom."""

    deviation: float
    freedom: int


def spread_of(pairs: Sequence[tuple[Floats, Floats]], statistic: str) -> PairSpread | None:
    """From pairs of blocks, a value a request.

    Under three, each is cut into parts that are taken to be independent.
    """
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
        PairSpread(float(np.std(ratios, ddof=1)) / sqrt(parts), len(ratios) - 1)
        if len(ratios) > 1
        else None
    )


def _statistic(values: Floats, statistic: str) -> float:
    return (
        float(np.mean(values))
        if statistic == "mean"
        else float(np.percentile(values, float(statistic[1:])))
    )


def smallest_change(spread: PairSpread, blocks: int, power: float = POWER) -> float:
    """The relative change that so many pairs of blocks, two or more, show with this power.

    The power is meant over what is not known of the spread, which makes it a noncentral t with the
    spread's own freedom (S. A. Julious, R. J. Owen, "Sample size calculations for clinical studies
    allowing for uncertainty about the variance", Pharm. Stat. 5, 2006).
    """
    critical = float(stdtrit(blocks - 1, 1 - TAIL))
    log_change = spread.deviation / sqrt(blocks) * float(nctdtrit(spread.freedom, critical, power))
    return exp(log_change) - 1 if log_change < 700 else inf


def blocks_needed(spread: PairSpread, change: float, power: float = POWER) -> int:
    """The pairs of blocks that show a relative change of `wanted` with this power.

    0 if a hundred million pairs are not enough.
    """
    return smallest(2, lambda blocks: smallest_change(spread, blocks, power) <= change)


def pairs_spread(pairing: Pairing, metric: str) -> PairSpread | None:
    """The spread of a statistic ("latency_p95") between paired blocks; None for too few values."""
    name, _, statistic = metric.rpartition("_")
    return spread_of(
        [(values_in(a, name), values_in(b, name)) for a, b in pairing.blocks], statistic
    )


def resolution(
    spread: PairSpread | None,
    blocks: int,
    names: tuple[str, str],
    config: ResolutionConfig | None,
    round_s: float,
) -> Resolution:
    """The change that `blocks` pairs of blocks show, and the blocks that the wanted change takes.

    `names` are the variant's and the baseline's. `round_s` is the time of one block of every
    variant, 0 if unknown.
    """
    metric, power = (config.metric, config.power) if config else (METRIC, POWER)
    of = f"{METRICS[metric].label} of {names[0]} against {names[1]}"
    if spread is None:
        sentence = f"{of}: too little was measured to tell how much blocks differ"
        return Resolution(metric=metric, power=power, blocks=blocks, sentence=sentence)
    there = smallest_change(spread, blocks, power) if blocks > 1 else None
    shows = (
        "one block shows no change"
        if there is None
        else f"{blocks} blocks show a change of {percent(there)} or more"
    )
    if config is None:
        sentence = f"{of}: {shows} (power {power * 100:g} %)"
        return Resolution(
            metric=metric, power=power, blocks=blocks, smallest=there, sentence=sentence
        )
    needed = blocks_needed(spread, config.change, power)
    seconds = needed * round_s if needed and round_s else None
    takes = f"about {needed:,} blocks" if needed else "more blocks than can be run"
    takes += f", {duration(seconds)} of load" if seconds else ""
    return Resolution(
        metric=metric,
        power=power,
        blocks=blocks,
        smallest=there,
        wanted=config.change,
        needed=needed or None,
        seconds=seconds,
        sentence=f"{of}: {shows} (power {power * 100:g} %); {percent(config.change)} takes {takes}",
    )


def round_seconds(measured: Sequence[MeasuredVariant], stage: str) -> float:
    """The time of one block of every variant at a stage, in seconds; 0 if the journals lack it."""
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
    """The blocks that show the wanted change for every variant, within the time limit.

    Only the first `pilot` blocks count, so that a resumed run plans the same. Raises BadInput for a
    run without journals.
    """
    config = inputs.resolution
    assert config is not None
    measured = read_measured(inputs, read_prompts(inputs.run))
    each = round_seconds(measured, inputs.judged_stage)
    most = max(config.pilot, int(config.max_time / each)) if each else MOST_BLOCKS
    blocks, sentences = config.pilot, []
    for names, pairing in _pairings(inputs, measured, config.pilot):
        spread = pairs_spread(pairing, config.metric)
        planned = resolution(spread, len(pairing.blocks), names, config, each)
        sentences.append(planned.sentence)
        if spread is None:
            continue
        if (needed := planned.needed or MOST_BLOCKS) > most:
            smallest_text = percent(smallest_change(spread, most, config.power))
            sentences.append(
                f"{names[0]}: {duration(config.max_time)} are enough for {most:,} blocks, which "
                f"show {smallest_text}"
            )
        blocks = max(blocks, min(needed, most))
    return Planned(blocks, sentences)


def forecast(inputs: RunInputs, blocks: int) -> list[str]:
    """The changes that so many blocks like a stored run's would show, a sentence a variant."""
    forecasts = resolutions(inputs, read_measured(inputs, read_prompts(inputs.run)), blocks)
    return [each.sentence for each in forecasts.values()]


def _pairings(
    inputs: RunInputs, measured: Sequence[MeasuredVariant], first: int | None = None
) -> list[tuple[tuple[str, str], Pairing]]:
    """Every variant's blocks of the judged stage, paired with the baseline's, and both names.

    `first`: only so many blocks of each.
    """
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
    inputs: RunInputs, measured: Sequence[MeasuredVariant], blocks: int | None = None
) -> dict[str, Resolution]:
    """The change of each variant that the judged stage's blocks show, or that `blocks` would."""
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
