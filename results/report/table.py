"""The comparison as rows of text: one for the page, the Markdown file and the terminal alike.

A row is a metric in one unit, a column a variant, so that the eye runs along a row to compare; the
baseline comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from foundation.format import (
    ABSENT,
    Scale,
    beside,
    capital,
    change,
    difference,
    read,
    scale,
    side,
    written,
)
from results.config import is_relative
from results.decision.objective_words import sign
from results.metrics import RECORDS, keys
from results.summary import (
    Difference,
    Estimate,
    Objective,
    Outcome,
    StageSummary,
    Summary,
    VariantSummary,
    Verdicts,
)

Effect = Literal["baseline", "better", "worse", "unclear", ""]

SHOWN = keys("table")
"""A metric that no variant of a run has is left out."""


@dataclass(frozen=True)
class Cell:
    """One variant's value as text: in the row's unit, with interval and difference to the baseline.

    `effect` says whether the difference is shown to be better or worse, or unclear (its interval
    includes zero). `outcome` is that of the objective on this metric, where there is one. `note`
    numbers the reason for a missing value.
    """

    value: str
    interval: str = ""
    difference: str = ""
    effect: Effect = ""
    outcome: Outcome | None = None
    note: int | None = None

    @property
    def short(self) -> str:
        """Value and difference in one line: "≈" within noise, "!" if the limit is not met."""
        sign = "≈ " if self.effect == "unclear" else ""
        changed = f" ({sign}{self.difference})" if self.difference else ""
        return f"{self.value}{' !' if self.outcome == 'fails' else ''}{changed}"


@dataclass(frozen=True)
class MetricRow:
    """A metric: `title` is its label with its unit, `limit` that of its objective if it has one."""

    key: str
    label: str
    unit: str
    limit: str
    cells: list[Cell]

    @property
    def title(self) -> str:
        """The label with the unit."""
        return f"{self.label}, {self.unit}" if self.unit else self.label


@dataclass(frozen=True)
class Column:
    """A column's title and the side that its texts are aligned to."""

    title: str
    align: Literal["left", "right"]


@dataclass(frozen=True)
class Table:
    """`columns`: the metric, a column a variant, and the limit where one is set.

    `notes[i]` is what cells number i + 1.
    """

    columns: list[Column]
    rows: list[MetricRow]
    notes: list[str] = field(default_factory=list)

    @property
    def variants(self) -> list[str]:
        """The names of the variants, in the order of the columns."""
        return [column.title for column in self.columns[1:] if column.title != LIMIT]

    @property
    def has_limits(self) -> bool:
        """Whether the last column holds the limits."""
        return self.columns[-1].title == LIMIT

    def texts(self) -> list[list[str]]:
        """One line a row, a text a column: what a terminal or a Markdown table prints."""
        return [
            [
                row.title,
                *(cell.short for cell in row.cells),
                *([row.limit] if self.has_limits else []),
            ]
            for row in self.rows
        ]


_Numbers = tuple[Estimate | None, Difference | None]
LIMIT = "limit"
MOST_DECIMALS = 10
# More output tokens a second may be speed, or only longer answers: no direction is better in
# itself.
_NEITHER = frozenset({"output_tokens_per_s"})


def in_order(summary: Summary) -> list[VariantSummary]:
    """The baseline, then the others as the experiment lists them."""
    return sorted(summary.variants, key=lambda v: v.variant != summary.baseline)


def stage_of(variant: VariantSummary, stage: str | None = None) -> StageSummary | None:
    """A variant's numbers under one load; under the judged one where none is named."""
    if stage is None:
        return variant.at_judged_stage
    return next((s for s in variant.stages if s.stage == stage), None)


def estimate_of(
    variant: VariantSummary, key: str, stage: str | None = None
) -> tuple[Estimate | None, Difference | None]:
    """A metric and its difference to the baseline: the stage's, or else the variant's."""
    at = stage_of(variant, stage)
    if at is not None and key in at.metrics:
        return at.metrics[key], at.differences.get(key)
    if stage not in (None, variant.judged_stage):
        return None, None
    return variant.metrics.get(key), variant.differences.get(key)


def rows(
    summary: Summary,
    verdicts: Verdicts | None = None,
    stage: str | None = None,
    shown: Sequence[str] = SHOWN,
) -> Table:
    """The table of one stage, the judged one by default; with `verdicts`, limits and outcomes too.

    What an objective asks for is a row, measured or not; of `shown`, what a variant has is one, and
    what none has is a note.
    """
    variants = in_order(summary)
    objectives = {} if verdicts is None or stage is not None else _objectives(verdicts)
    notes: list[str] = []
    left_out: dict[str, list[str]] = {}
    table = []
    named = {metric for _, metric in objectives}
    for key in (k for k in RECORDS if k in summary.metrics and (k in shown or k in named)):
        numbers = [estimate_of(variant, key, stage) for variant in variants]
        row_objectives = [objectives.get((variant.variant, key)) for variant in variants]
        if any(row_objectives) or any(
            estimate is not None and estimate.value is not None for estimate, _ in numbers
        ):
            table.append(_row(summary, variants, key, numbers, row_objectives, notes))
            continue
        for reason in dict.fromkeys(e.reason for e, _ in numbers if e is not None and e.reason):
            left_out.setdefault(reason, []).append(capital(summary.metrics[key].label))
    notes += [f"Left out: {', '.join(labels)}: {reason}" for reason, labels in left_out.items()]
    limits = [Column(LIMIT, "right")] if any(row.limit for row in table) else []
    return Table(
        [Column("", "left"), *(Column(v.variant, "right") for v in variants), *limits], table, notes
    )


def _objectives(verdicts: Verdicts) -> dict[tuple[str, str], Objective]:
    """By variant and metric."""
    return {(v.variant, o.metric): o for v in verdicts.variants for o in v.objectives}


def _row(
    summary: Summary,
    variants: Sequence[VariantSummary],
    key: str,
    numbers: Sequence[_Numbers],
    objectives: Sequence[Objective | None],
    notes: list[str],
) -> MetricRow:
    metric = summary.metrics[key]
    limit = _limit(numbers, objectives)
    unit = _apart(
        scale((e.value for e, _ in numbers if e is not None), metric.unit),
        numbers,
        objectives,
        limit,
    )
    better = "" if key in _NEITHER else metric.better
    how = _Written(unit, metric.unit, better)
    cells = [
        _cell(
            (estimate, changed),
            how,
            variant.variant == summary.baseline,
            objective,
            notes,
        )
        for variant, (estimate, changed), objective in zip(
            variants, numbers, objectives, strict=True
        )
    ]
    unit_text = "" if unit.unit in metric.label.split() else unit.unit
    return MetricRow(key, capital(metric.label), unit_text, _limit_cell(limit, objectives), cells)


def _limit(numbers: Sequence[_Numbers], objectives: Sequence[Objective | None]) -> str:
    """The limit in its unit, or nothing; not rounded past any of the values."""
    objective = next((o for o in objectives if o is not None and o.limit is not None), None)
    if objective is None or objective.limit is None:
        return ""
    values = [
        estimate.value
        for estimate, _ in numbers
        if estimate is not None and estimate.value is not None
    ]
    return beside(values, objective.limit, partial(written, objective.unit))[1]


def _limit_cell(limit: str, objectives: Sequence[Objective | None]) -> str:
    """The limit with its sign, and as it was written where it is relative to the baseline."""
    objective = next((o for o in objectives if o is not None and o.limit is not None), None)
    if objective is None or not limit:
        return ""
    text = objective.limit_text.strip()
    return f"{sign(objective)} {limit}{f' ({text})' if is_relative(text) else ''}"


@dataclass(frozen=True)
class _Written:
    """How a row's values are written: their scale, the metric's unit, and which way is better."""

    scale: Scale
    unit: str
    better: str


def _cell(
    numbers: _Numbers,
    written: _Written,
    is_baseline: bool,
    objective: Objective | None,
    notes: list[str],
) -> Cell:
    (estimate, changed), unit = numbers, written.scale
    outcome = objective.outcome if objective else None
    if estimate is None or estimate.value is None:
        return Cell(
            ABSENT, outcome=outcome, note=_note(estimate.reason if estimate else None, notes)
        )
    low, high = unit(estimate.low), unit(estimate.high)
    between = "" if low == high or ABSENT in (low, high) else f"{low} to {high}"
    if is_baseline:
        return Cell(unit(estimate.value), between, effect="baseline", outcome=outcome)
    text = difference_text(changed, written.unit)
    is_some = any(digit in text for digit in "123456789")  # "0.0 % better" says nothing
    effect = effect_of(changed, written.better) if is_some else ""
    return Cell(unit(estimate.value), between, text, effect, outcome)


def _apart(
    unit: Scale, numbers: Sequence[_Numbers], objectives: Sequence[Objective | None], limit: str
) -> Scale:
    """The scale with enough decimals to show every value on its own side of the written limit."""
    pairs = [
        (estimate.value, objective.limit)
        for (estimate, _), objective in zip(numbers, objectives, strict=True)
        if estimate is not None
        and estimate.value is not None
        and objective is not None
        and objective.limit is not None
    ]
    scales = (replace(unit, decimals=unit.decimals + more) for more in range(MOST_DECIMALS))
    written_limit = read(limit) if pairs else 0.0
    return next(
        (
            each
            for each in scales
            if all(side(each.read(v), written_limit) == side(v, exact) for v, exact in pairs)
        ),
        unit,
    )


def _note(reason: str | None, notes: list[str]) -> int | None:
    if not reason:
        return None
    if reason not in notes:
        notes.append(reason)
    return notes.index(reason) + 1


def difference_text(changed: Difference | None, unit: str) -> str:
    """Points for shares, per cent for the rest; the plain difference if the baseline has 0."""
    if changed is None:
        return ""
    if unit != "share" and changed.relative.value is not None:
        return change(changed.relative.value)
    return "" if changed.absolute.value is None else difference(changed.absolute.value, unit)


def effect_of(changed: Difference | None, better: str) -> Effect:
    """Better or worse only where the interval of the difference leaves out zero.

    Without an interval (a size) the sign decides. `better` is "lower", "higher", or "" where
    neither is.
    """
    if changed is None or changed.absolute.value is None:
        return ""
    value = changed.absolute.value
    low = value if changed.absolute.low is None else changed.absolute.low
    high = value if changed.absolute.high is None else changed.absolute.high
    if low <= 0 <= high:
        return "unclear" if low < high else ""
    if not better:
        return ""
    return "better" if (high < 0) == (better == "lower") else "worse"
