"""Two stored runs against each other: the same variant at two commits, on two machines, with two versions.

Runs share neither the hour nor the machine's mood, so their blocks are not paired, and what a run's own blocks differ by among
themselves (its noise) is the least that a difference between runs must exceed. Scores are paired by prompt, as within a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, isnan
from typing import Any, Literal

import numpy as np

from results.compare import no_difference, noise, paired_by_prompt, paired_scores, prompt_means, reach_of
from results.inputs import RunInputs
from results.journal import read_prompts
from results.measured import Measured, read_measured
from results.metrics import METRICS, TOKEN_MEANS, block_statistics
from results.report.format import change, points, quantity
from results.stats import TAIL, Bounds, estimate, score_bounds, unpaired_log_bounds
from results.steady import StageData
from results.summary import SCHEMA_VERSION, Difference, Estimate, RunChange, RunComparison

TIMES = ("latency_p50", "latency_p95", "ttft_p50", "ttft_p95", "tpot_mean", "requests_per_s")
ONE_BLOCK = "an interval needs at least two blocks in each run"


def compare_runs(
    before: RunInputs, after: RunInputs, environments: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {})
) -> RunComparison:
    """Every variant that both runs have, stage by stage; if they share no name and have one variant each, those two.

    `environments` are the runs' `environment.json`. Raises BadInput for a run without journals.
    """
    sides = [{m.record.name: m for m in read_measured(inputs, read_prompts(inputs.run))} for inputs in (before, after)]
    pairs = [(name, sides[0][name], sides[1][name]) for name in sides[0] if name in sides[1]]
    notes = [f"only {before.name} has {name}" for name in sides[0] if name not in sides[1]]
    notes += [f"only {after.name} has {name}" for name in sides[1] if name not in sides[0]]
    if not pairs and len(sides[0]) == len(sides[1]) == 1:
        (one,), (two,) = (list(side.values()) for side in sides)
        pairs, notes = [(f"{one.record.name} / {two.record.name}", one, two)], []
    changes = []
    for name, one, two in pairs:
        changes += _changes(name, one, two, notes)
    return RunComparison(
        schema_version=SCHEMA_VERSION,
        before=before.name,
        after=after.name,
        environment=environment_changes(*environments),
        changes=changes,
        notes=notes,
    )


def environment_changes(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs between two nested mappings, a line each: "versions.vllm: 0.31.0 -> 0.32.0"."""
    lines = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += environment_changes(old, new, f"{prefix}{key}.")
        elif old != new:
            lines.append(f"{prefix}{key}: {'none' if old is None else old} -> {'none' if new is None else new}")
    return lines


def _changes(name: str, before: Measured, after: Measured, notes: list[str]) -> list[RunChange]:
    found = []
    for stage in before.stages:
        if stage not in after.stages:
            continue
        old, new = before.stages[stage], after.stages[stage]
        if (old.offered_rate, old.concurrency) != (new.offered_rate, new.concurrency):
            notes.append(f"{name}, {stage}: the offered loads differ, so the numbers are not compared")
            continue
        floors = noise(old), noise(new)
        metrics = before.metrics[stage], after.metrics[stage]
        for key in TIMES:
            difference = _unpaired(old, new, key, metrics[0][key], metrics[1][key])
            reach = [reach_of(floor[key]) for floor in floors]
            floor = max((r for r in reach if r is not None), default=None)
            found.append(_change(name, stage, key, metrics[0][key], metrics[1][key], difference, floor))
        found.append(_tokens(name, stage, old, new, metrics[0]["output_tokens_mean"], metrics[1]["output_tokens_mean"]))
    if before.scores and after.scores:
        difference = paired_scores(after.scores, before.scores)
        found.append(_change(name, None, "quality", _mean_score(before), _mean_score(after), difference, None))
    return found


def _unpaired(old: StageData, new: StageData, key: str, before: Estimate, after: Estimate) -> Difference:
    if before.value is None or after.value is None or before.value <= 0:
        return no_difference(before.reason or after.reason or "nothing to compare with")
    blocks = [[x for block in side.blocks if not isnan(x := block_statistics(block, {})[key])] for side in (new, old)]
    ratio = after.value / before.value
    bounds = unpaired_log_bounds(blocks[0], blocks[1], ratio, TAIL, TAIL)
    n, reason = min(map(len, blocks)), None if isfinite(bounds.high) else ONE_BLOCK
    scaled = Bounds((bounds.low - 1) * before.value, (bounds.high - 1) * before.value)
    return Difference(
        absolute=estimate(after.value - before.value, scaled, n, reason),
        relative=estimate(ratio - 1, Bounds(bounds.low - 1, bounds.high - 1), n, reason),
    )


def _tokens(name: str, stage: str, old: StageData, new: StageData, before: Estimate, after: Estimate) -> RunChange:
    key = "output_tokens_mean"
    if before.value is None or after.value is None:
        return _change(name, stage, key, before, after, no_difference(before.reason or after.reason or "not counted"), None)
    means = [prompt_means([block.requests for block in side.blocks], TOKEN_MEANS[key]) for side in (new, old)]
    return _change(name, stage, key, before, after, paired_by_prompt(means[0], means[1], after.value, before.value), None)


def _mean_score(measured: Measured) -> Estimate:
    values = np.array(list(measured.scores.values()))
    return estimate(float(np.mean(values)), score_bounds(values, TAIL, TAIL), len(values))


def _change(
    name: str, stage: str | None, key: str, before: Estimate, after: Estimate, difference: Difference, floor: float | None
) -> RunChange:
    metric = METRICS[key]
    change_of = difference.absolute
    outcome: Literal["better", "worse", "no difference", "unsettled"] = "unsettled"
    if change_of.value is not None and change_of.low is not None and change_of.high is not None:
        shown = not change_of.low <= 0 <= change_of.high
        beyond = floor is None or abs(difference.relative.value or 0.0) > floor
        outcome = "no difference"
        if shown and beyond:
            outcome = "worse" if (change_of.value > 0) == (metric.better == "lower") else "better"
    return RunChange(
        variant=name,
        stage=stage,
        metric=key,
        label=metric.label,
        unit=metric.unit,
        before=before,
        after=after,
        difference=difference,
        noise=floor,
        outcome=outcome,
        sentence=_sentence(metric.label, metric.unit, before, after, difference, floor, outcome),
    )


def _sentence(
    label: str, unit: str, before: Estimate, after: Estimate, difference: Difference, floor: float | None, outcome: str
) -> str:
    if before.value is None or after.value is None:
        return f"{label} can't be compared: {difference.absolute.reason}"
    was = f"{label} was {quantity(before.value, unit)} and is {quantity(after.value, unit)}"
    if unit == "share" and difference.absolute.value is not None:
        size = points(difference.absolute.value)
    else:
        size = change(difference.relative.value) if difference.relative.value is not None else "no measure of it"
    reach = f", noise {change(floor).lstrip('+')}" if floor is not None else ""
    return f"{was}: {outcome} ({size}{reach})"
