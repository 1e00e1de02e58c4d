"""Two variants that are compared, one of either run, and whether they were asked the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from foundation.arrays import Floats
from foundation.run.records import JournalHeader, Prompt
from results.comparison.stored_runs.prompt_contents import (
    Contents,
    Coverage,
    contents_of,
    question_changes,
    reference_changes,
)
from results.comparison.stored_runs.settings import (
    Changes,
    Settings,
    asked_changes,
    header_changes,
    length_changes,
    lines,
    read_headers,
    scoring_changes,
    setting_changes,
)
from results.inputs import RunInputs
from results.measures.measured import EVAL, MeasuredVariant
from results.measures.request_limits import request_limits
from results.measures.values import Limits
from results.summary import StageSummary, VariantSummary

# Of a section `request`, what changes the body; headers and certificates are the way to the server.
_BODY = ("omit", "rename", "extra")
# Words of notes on how a server is reached, not on what it is asked.
_WAY = ("://", "certificate")
_APART_MS = 1.0


@dataclass(frozen=True)
class Side:
    """A variant of one run, read and summarised.

    `settings` are the run's sections of `experiment.yaml`, `environment` is its `environment.json`.
    `base` is the run's baseline, which relative limits are of.
    """

    inputs: RunInputs
    settings: Settings
    environment: Mapping[str, Any]
    prompts: Mapping[str, Prompt]
    variant: MeasuredVariant
    base: MeasuredVariant
    summary: VariantSummary

    @property
    def run(self) -> str:
        """The name of the run."""
        return self.inputs.name

    def stage(self, name: str) -> StageSummary:
        """The summary of a stage, which must be there."""
        return next(stage for stage in self.summary.stages if stage.stage == name)

    def limits(self, stage: str) -> Limits:
        """What goodput counts by at a stage."""
        return request_limits(self.inputs.slo, self.base.metrics.get(stage, {}))

    def headers(self, stage: str) -> list[JournalHeader]:
        """The headers of a stage's journals."""
        return read_headers(self.inputs.run / "load" / self.variant.record.name / stage)

    def contents(self, group: str, stage: str, lengths_only: bool) -> Contents:
        """The prompts of a question set in the words that the stage's journals say were sent."""
        style = next(
            (header.prompt_style for header in self.headers(stage)),
            self.variant.record.prompt_style,
        )
        return contents_of(self.prompts, group, style, lengths_only=lengths_only)


@dataclass(frozen=True)
class StageQuestion:
    """What a stage asks on both sides, and how the two differ.

    `asked`: why its numbers answer different questions.
    `held`: why nothing is concluded although they answer the same question.
    `scored`: why answers are not scored alike.
    `invalid`: the sides whose measurement is INVALID.
    `before`, `after`: the prompts by content.
    """

    asked: list[str]
    held: list[str]
    scored: list[str]
    invalid: list[str]
    before: Contents
    after: Contents

    @property
    def barred(self) -> list[str]:
        """Why nothing of it is compared."""
        return [*self.asked, *self.invalid]

    def differences(self, scored: bool) -> list[str]:
        """What was asked otherwise; with `scored`, what was scored otherwise too."""
        return [*self.asked, *self.held, *(self.scored if scored else ())]


def question_of(before: Side, after: Side, stage: str, changes: Changes) -> StageQuestion:
    """The question of a stage, by settings, journals' headers and prompts' contents."""
    coverage, lengths_only = _coverage(before.settings, after.settings)
    old, new = (side.contents(EVAL, stage, lengths_only) for side in (before, after))
    differences = lines(asked_changes(changes, stage)) or header_changes(
        before.headers(stage), after.headers(stage)
    )
    differences += [*_form_changes(before, after), *_trace_changes(before, after, stage)]
    differ = question_changes(old, new, (before.run, after.run), coverage)
    differences = [*differences, *([differ] if differ else [])]
    lengths = lines(length_changes(changes, stage))
    held = (
        [(f"the runs' blocks are not equally long, measure both alike: {', '.join(lengths)}")]
        if lengths
        else []
    )
    references = None if differ else reference_changes(old, new)
    scored = [*lines(scoring_changes(changes)), *([references] if references else [])]
    return StageQuestion(differences, held, scored, _invalid(before, after, stage), old, new)


def probe_question(before: Side, after: Side, probe: str, changes: Changes) -> StageQuestion:
    """The same of a probe, which has no load."""
    stage = f"probe-{probe}"
    old, new = (side.contents(probe, stage, False) for side in (before, after))
    differ = question_changes(old, new, (before.run, after.run))
    differences = [
        *lines(asked_changes(changes, stage)),
        *_form_changes(before, after),
        *([differ] if differ else []),
    ]
    references = None if differ else reference_changes(old, new)
    scored = [*lines(scoring_changes(changes, probe)), *([references] if references else [])]
    return StageQuestion(differences, [], scored, [], old, new)


def _form_changes(before: Side, after: Side) -> list[str]:
    """How the requests' bodies differ: by the sections `request`, else by what servers refused."""
    written, noted = [], []
    for side in (before, after):
        name = side.variant.record.name
        request = side.settings.get("variants", {}).get(name, {}).get("request") or {}
        written.append({"request": {key: request.get(key) or None for key in _BODY}})
        notes = side.environment.get("requests", {}).get(name, [])
        noted.append(
            "; ".join(note for note in notes if not any(word in note for word in _WAY))
            or ("as usual")
        )
    if changed := setting_changes(written[0], written[1]):
        return lines(changed)
    return [] if noted[0] == noted[1] else [f"requests: {noted[0]} -> {noted[1]}"]


def _trace_changes(before: Side, after: Side, stage: str) -> list[str]:
    """Whether a recording was another one, by its arrivals: its file may lie elsewhere."""
    loads = [
        side.settings.get("workload", {}).get("stages", {}).get(stage, {})
        for side in (before, after)
    ]
    if any(load.get("trace") is None for load in loads):
        return []
    blocks = [
        {block.number: block.requests.scheduled for block in side.variant.stages[stage].blocks}
        for side in (before, after)
    ]
    common = sorted(blocks[0].keys() & blocks[1].keys())
    other = [number for number in common if not _same_times(blocks[0][number], blocks[1][number])]
    return [f"trace: requests arrive at other times (the first: block {other[0]})"] if other else []


def _same_times(before: Floats, after: Floats) -> bool:
    return len(before) == len(after) and bool(np.allclose(before, after, rtol=0, atol=_APART_MS))


def _invalid(before: Side, after: Side, stage: str) -> list[str]:
    return [
        f"the measurement of {side.run} is INVALID"
        for side in (before, after)
        if side.stage(stage).validity.level == ("INVALID")
    ]


def _coverage(before: Settings, after: Settings) -> tuple[Coverage, bool]:
    """Which prompts must be the same, and whether only in their lengths.

    Of held-out data all. A dataset that is made or read as far as it is needed holds more prompts
    in a run of more blocks. Words that are made up mean nothing: their lengths count, and where
    another seed drew them not even those one by one.
    """
    sections = [settings.get("workload", {}) for settings in (before, after)]
    datasets = [section.get("dataset") for section in sections]
    if not all(isinstance(dataset, Mapping) for dataset in datasets):
        return "all", False
    made_up = all(dataset.get("sharegpt") is None for dataset in datasets)
    other_seed = sections[0].get("seed") != sections[1].get("seed")
    return ("none" if made_up and other_seed else "common"), made_up
