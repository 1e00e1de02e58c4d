"""The rounds of `dyno improve`, as the terminal and the report show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foundation.format import ABSENT, between, change
from foundation.run.journal import Damage
from foundation.run.json_files import read_json
from foundation.run.layout import IMPROVE_FILE
from results.decision.improvement.endings import effect_text
from results.decision.improvement.record import (
    Improvement,
    ImproveRound,
    TriedRemedy,
)
from results.summary import Estimate

HEADINGS = ("Remedy", "Variant", "Expected", "Measured", "Error", "Score", "Verdict")


@dataclass(frozen=True)
class RoundTable:
    """A round: its title, a row for each remedy, and sentences below."""

    title: str
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]


def round_table(round_: ImproveRound) -> RoundTable:
    """Effects are factors on the metric that binds; "x 0.50" halves it."""
    title = f"Round {round_.number}: {round_.variant} is held back by {round_.label}"
    blocks = f"{round_.blocks} block{'s' if round_.blocks > 1 else ''}"
    notes = [
        f"{round_.binding}.",
        *(f"{tried.variant}: expected by {tried.source}" for tried in round_.tried),
        *(f"Left out: {each.remedy}: {each.why}." for each in round_.skipped),
        f"Measured anew in {blocks} beside them: {round_.variant} and the baseline."
        if round_.tried
        else f"Measured longer, in {blocks}.",
        *([round_.headline] if round_.headline else []),
    ]
    return RoundTable(title, [_row(tried) for tried in round_.tried], notes)


def _row(tried: TriedRemedy) -> list[str]:
    return [
        tried.remedy,
        tried.variant,
        effect_text(tried.expected),
        _estimate(tried.measured),
        ABSENT if tried.error is None else change(tried.error),
        f"{_estimate(tried.score)}, expected {effect_text(tried.score_expected)}"
        if tried.score is not None and tried.score.value is not None
        else ABSENT,
        tried.decision or ABSENT,
    ]


def _estimate(estimate: Estimate | None) -> str:
    if estimate is None or estimate.value is None:
        return ABSENT
    if estimate.low is None or estimate.high is None:
        return effect_text(estimate.value)
    return (
        f"{effect_text(estimate.value)} ({between(f'{estimate.low:.2f}', f'{estimate.high:.2f}')})"
    )


@dataclass(frozen=True)
class ImprovementSection:
    """What the report says of the rounds."""

    headings: Sequence[str]
    rounds: Sequence[RoundTable]
    sentence: str
    rule: str
    skipped: Sequence[str]


def improvement_section(run: Path) -> ImprovementSection | None:
    """The section of the run's `improve.json`; None without a round or an ending in it.

    Of a damaged file it says why it can't be read.
    """
    record = read_json(run, IMPROVE_FILE, Improvement)
    if isinstance(record, Damage):
        return ImprovementSection(HEADINGS, [], str(record), "", [])
    if record is None or not (record.rounds or record.sentence):
        return None
    return ImprovementSection(
        HEADINGS,
        [round_table(each) for each in record.rounds],
        record.sentence,
        record.rule,
        [f"{each.remedy}: {each.why}." for each in record.skipped],
    )
