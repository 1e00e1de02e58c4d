"""Compares two stored runs: one variant at two commits, on two machines, with two versions.

Only answers to the same question are compared. Runs with other questions, or with an INVALID
measurement, are named and not called better or worse. `evidence` says what the data show,
`outcomes` what follows for a number, `conclusion` for the two runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from foundation.run.journal import Prompts
from results.comparison.stored_runs.conclusion import conclude
from results.comparison.stored_runs.outcomes import MARGIN, Compared, outcomes
from results.comparison.stored_runs.pairs import probe_change, stage_changes, variant_changes
from results.comparison.stored_runs.settings import Changes, Settings, lines, setting_changes
from results.comparison.stored_runs.sides import Side, StageQuestion, probe_question, question_of
from results.comparison.waterfall import run_difference
from results.inputs import RunInputs
from results.measures.measured import MeasuredVariant
from results.summary import (
    SCHEMA_VERSION,
    RunComparison,
    RunWaterfall,
    Summary,
    WaterfallDifference,
)

Pair = tuple[str, Side, Side]


@dataclass(frozen=True)
class StoredRun:
    """A run that was read and summarised (`analysis.read_run`).

    It has its `environment.json`, and its sections of `experiment.yaml` with lists of named things
    by name.
    """

    inputs: RunInputs
    prompts: Prompts
    measured: Sequence[MeasuredVariant]
    summary: Summary
    environment: Mapping[str, Any] = field(default_factory=dict)
    settings: Settings = field(default_factory=dict)


def compare_runs(before: StoredRun, after: StoredRun, margin: float = MARGIN) -> RunComparison:
    """Compares every variant that both runs have, stage by stage.

    Runs that share no name and have one variant each: those two. `margin` is the largest relative
    change that counts as none.
    """
    names = before.inputs.name, after.inputs.name
    changes = setting_changes(before.settings, after.settings)
    pairs, missing, notes = _pairs(_sides(before), _sides(after), names)
    findings = [_compare(pair, changes, margin) for pair in pairs]
    results = outcomes([each for finding in findings for each in finding.compared])
    missing += [line for finding in findings for line in finding.missing]
    validity = [line for finding in findings for line in finding.validity]
    questions = [line for finding in findings for line in finding.asked]
    conclusion, headline = conclude(
        results, missing, any(": INVALID: " in line for line in validity)
    )
    return RunComparison(
        schema_version=SCHEMA_VERSION,
        before=names[0],
        after=names[1],
        conclusion=conclusion,
        headline=headline,
        changes=results,
        asked=questions,
        validity=validity,
        missing=missing,
        settings=[line for line in lines(changes) if not any(line in each for each in questions)],
        environment=lines(setting_changes(before.environment, after.environment)),
        notes=[*notes, *(line for finding in findings for line in finding.notes)],
        waterfalls=[each for finding in findings for each in finding.waterfalls],
    )


def _sides(run: StoredRun) -> dict[str, Side]:
    """The variants of a run that were measured, by name."""
    summaries = {each.variant: each for each in run.summary.variants}
    base = next(each for each in run.measured if each.record.name == run.inputs.baseline)
    return {
        each.record.name: Side(
            run.inputs,
            run.settings,
            run.environment,
            run.prompts,
            each,
            base,
            summaries[each.record.name],
        )
        for each in run.measured
        if each.stages
    }


def _pairs(
    before: Mapping[str, Side], after: Mapping[str, Side], names: tuple[str, str]
) -> tuple[list[Pair], list[str], list[str]]:
    """The variants to compare, what only the earlier run has, and what only the later one has."""
    pairs = [(name, before[name], after[name]) for name in before if name in after]
    if not pairs and len(before) == len(after) == 1:
        (one,), (two,) = before.values(), after.values()
        return [(f"{one.variant.record.name} / {two.variant.record.name}", one, two)], [], []
    missing = [f"only {names[0]} has variant {name}" for name in before if name not in after]
    return (
        pairs,
        missing,
        [f"only {names[1]} has variant {name}" for name in after if name not in before],
    )


@dataclass(frozen=True)
class _Findings:
    """What a pair of variants shows: its numbers, and what a reader must know beside them."""

    compared: Sequence[Compared]
    asked: Sequence[str]
    validity: Sequence[str]
    missing: Sequence[str]
    notes: Sequence[str]
    waterfalls: Sequence[RunWaterfall]


def _compare(pair: Pair, changes: Changes, margin: float) -> _Findings:
    name, before, after = pair
    stages = [stage for stage in before.variant.stages if stage in after.variant.stages]
    questions = {stage: question_of(before, after, stage, changes) for stage in stages}
    compared = [
        c
        for stage in stages
        for c in stage_changes(name, stage, before, after, questions[stage], margin)
    ]
    places = [(f"{name}, {stage}", question) for stage, question in questions.items()]
    if judged := _judged(before, after, questions):
        compared += variant_changes(name, before, after, judged, margin)
    probes = [probe for probe in before.variant.probe_scores if probe in after.variant.probe_scores]
    for probe in probes:
        question = probe_question(before, after, probe, changes)
        compared.append(probe_change(name, probe, before, after, question, margin))
        places.append((f"{name}, probe {probe}", question))
    scored = any(each.key == "quality" for each in compared)
    return _Findings(
        compared,
        [f"{place}: {line}" for place, question in places for line in question.differences(scored)],
        [line for stage in stages for line in _validity(name, stage, before, after)],
        [*_only(name, before, after, "stage"), *_only(name, before, after, "probe")],
        _only(name, after, before, "stage"),
        [
            RunWaterfall(variant=name, stage=stage, difference=difference)
            for stage in stages
            if not questions[stage].barred and (difference := _waterfall(stage, before, after))
        ],
    )


def _waterfall(stage: str, before: Side, after: Side) -> WaterfallDifference | None:
    stages = after.variant.stages[stage], before.variant.stages[stage]
    return run_difference(stages, (after.run, before.run))


def _judged(
    before: Side, after: Side, questions: Mapping[str, StageQuestion]
) -> StageQuestion | None:
    """The question behind quality and cost, which are of the judged stage; None without one."""
    stages = before.inputs.judged_stage, after.inputs.judged_stage
    question = questions.get(stages[0]) or questions.get(stages[1])
    if question is None or stages[0] == stages[1]:
        return question
    return replace(
        question,
        asked=[*question.asked, f"quality and cost: of stage {stages[0]} -> of stage {stages[1]}"],
    )


def _only(name: str, side: Side, other: Side, what: Literal["stage", "probe"]) -> list[str]:
    mine, theirs = (
        each.variant.stages if what == "stage" else each.variant.probe_scores
        for each in (side, other)
    )
    return [f"only {side.run} has {what} {each} of {name}" for each in mine if each not in theirs]


def _validity(name: str, stage: str, before: Side, after: Side) -> list[str]:
    return [
        f"{side.run}: {name}, {stage}: {reason}"
        for side in (before, after)
        for reason in side.stage(stage).validity.reasons
    ]
