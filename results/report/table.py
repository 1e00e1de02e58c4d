"""The comparison as rows of text, the same for the page, the Markdown file and the terminal.

A row is a metric in one unit, a column a variant, so that the eye compares along a row. The
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
    Metric,
    Objective,
    Outcome,
    StageSummary,
    Summary,
    VariantSummary,
    Verdicts,
)

Effect = Literal["baseline", "better", "worse", "unclear", ""]

SHOWN = keys("table")
"""The metrics of the table; it leaves out those that no variant of the run has."""


@dataclass(frozen=True)
class Cell:
    """One variant's value as text in the row's unit, with its 95 % interval.

    `difference`: to the baseline.
    `effect`: whether the difference is better or worse, or unclear (its interval includes zero).
    `outcome`: the outcome of the objective on this metric; None without an objective.
    `note`: the number of the note that gives the reason for a missing value.
    """

    value: str
    interval: str = ""
    difference: str = ""
    effect: Effect = ""
    outcome: Outcome | None = None
    note: int | None = None

    @property
    def short(self) -> str:
        """Value and difference in one line.

        "≈" marks a difference within noise, "!" a value that misses its limit.
        """
        sign = "≈ " if self.effect == "unclear" else ""
        difference = f" ({sign}{self.difference})" if self.difference else ""
        return f"{self.value}{' !' if self.outcome == 'fails' else ''}{difference}"


@dataclass(frozen=True)
class MetricRow:
    """A metric, or a setting in which the variants differ.

    `limit` is the limit of the objective on a metric, empty without an objective.
    """

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
    """A column's title and alignment."""

    title: str
    align: Literal["left", "right"]


@dataclass(frozen=True)
class Table:
    """The rows under their columns: the metric, one per variant, and the limit if any is set.

    A cell's `note` n refers to `notes[n - 1]`. `remarks`: what is said of no cell alone.
    """

    columns: list[Column]
    rows: list[MetricRow]
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def variants(self) -> list[str]:
        """The names of the variants, in the order of their columns."""
        return [column.title for column in self.columns[1:] if column.title != LIMIT]

    @property
    def has_limits(self) -> bool:
        """Whether the last column holds limits."""
        return self.columns[-1].title == LIMIT

    def texts(self) -> list[list[str]]:
        """One line per row, one text per column, for a terminal or a Markdown table."""
        return [
            [
                row.title,
                *(cell.short for cell in row.cells),
                *([row.limit] if self.has_limits else []),
            ]
            for row in self.rows
        ]


@dataclass(frozen=True)
class _VariantValue:
    """One variant's estimate of a metric, its difference to the baseline, and the objective."""

    is_baseline: bool
    estimate: Estimate | None
    difference: Difference | None
    objective: Objective | None

    @property
    def number(self) -> float | None:
        return None if self.estimate is None else self.estimate.value


LIMIT = "limit"
MOST_DECIMALS = 10
# More output tokens a second may mean speed or only longer answers, so no direction is better.
_NEITHER = frozenset({"output_tokens_per_s"})


def in_order(summary: Summary) -> list[VariantSummary]:
    """The baseline, then the others as the experiment lists them."""
    return sorted(summary.variants, key=lambda v: v.variant != summary.baseline)


def stage_of(variant: VariantSummary, stage: str | None = None) -> StageSummary | None:
    """A variant's numbers at a stage, by default the judged one; None if it lacks the stage."""
    if stage is None:
        return variant.at_judged_stage
    return next((s for s in variant.stages if s.stage == stage), None)


def estimate_of(
    variant: VariantSummary, key: str, stage: str | None = None
) -> tuple[Estimate | None, Difference | None]:
    """A metric and its difference to the baseline, each None if unknown.

    A metric of stages is the one at `stage`, by default the judged stage. Others are the variant's.
    """
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
    """The table of one stage, by default the judged one.

    The table of the judged stage begins with the settings in which the variants differ, and the
    replicas where there are several. With
    `verdicts` it has limits and their outcomes. A metric with an objective is a row, measured or
    not. Of `shown`, a metric that some variant has is a row; one that none has is a remark.
    """
    variants = in_order(summary)
    objectives = {} if verdicts is None or stage is not None else _objectives(verdicts)
    judged = {metric for _, metric in objectives}
    notes: list[str] = []
    left_out: dict[str, list[str]] = {}
    table = [*_settings(variants), *_replicas(variants)] if stage is None else []
    for key in (k for k in RECORDS if k in summary.metrics and (k in shown or k in judged)):
        values = [
            _VariantValue(
                variant.variant == summary.baseline,
                *estimate_of(variant, key, stage),
                objectives.get((variant.variant, key)),
            )
            for variant in variants
        ]
        if any(value.objective is not None or value.number is not None for value in values):
            table.append(_row(key, summary.metrics[key], values, notes))
            continue
        reasons = (value.estimate.reason for value in values if value.estimate is not None)
        for reason in dict.fromkeys(reason for reason in reasons if reason):
            left_out.setdefault(reason, []).append(capital(summary.metrics[key].label))
    remarks = _unequal_blocks(summary, variants, stage)
    remarks += [f"Left out: {', '.join(labels)}: {reason}" for reason, labels in left_out.items()]
    limits = [Column(LIMIT, "right")] if any(row.limit for row in table) else []
    columns = [Column("", "left"), *(Column(v.variant, "right") for v in variants), *limits]
    return Table(columns, table, notes, remarks)


def _unequal_blocks(
    summary: Summary, variants: Sequence[VariantSummary], stage: str | None
) -> list[str]:
    """Of which blocks the differences are, where a race ended for some variants before others.

    Two values of a row then differ by something else than the difference that stands there.
    """
    if summary.race is None:
        return []
    blocks = [at.blocks for v in variants if (at := stage_of(v, stage)) is not None]
    if len(set(blocks)) < 2:
        return []
    return [
        f"A value is of all blocks of its variant, {min(blocks)} to {max(blocks)}; a difference is "
        f"of the blocks that {summary.baseline} was measured in too."
    ]


def _settings(variants: Sequence[VariantSummary]) -> list[MetricRow]:
    """A row for each setting in which the variants differ."""
    keys = dict.fromkeys(key for variant in variants for key in variant.settings)
    return [
        MetricRow(key, key, "", "", [Cell(v.settings.get(key, ABSENT)) for v in variants])
        for key in keys
    ]


def _replicas(variants: Sequence[VariantSummary]) -> list[MetricRow]:
    """A row with the servers of each variant and who divides requests among them.

    None where each variant has one.
    """
    stages = [variant.at_judged_stage for variant in variants]
    if all(stage is None or stage.replicas == 1 for stage in stages):
        return []
    cells = [
        ABSENT if s is None else f"{s.replicas}, {s.router}" if s.router else str(s.replicas)
        for s in stages
    ]
    return [MetricRow("replicas", "Replicas", "", "", [Cell(cell) for cell in cells])]


def _objectives(verdicts: Verdicts) -> dict[tuple[str, str], Objective]:
    """By variant and metric."""
    return {(v.variant, o.metric): o for v in verdicts.variants for o in v.objectives}


def _row(key: str, metric: Metric, values: Sequence[_VariantValue], notes: list[str]) -> MetricRow:
    """The row of a metric; adds the reasons for missing values to `notes`."""
    limit = _limit(values)
    unit = _apart(scale((value.number for value in values), metric.unit), values, limit)
    better = "" if key in _NEITHER else metric.better
    cells = [_cell(value, unit, metric.unit, better, notes) for value in values]
    title_unit = "" if unit.unit in metric.label.split() else unit.unit
    return MetricRow(key, capital(metric.label), title_unit, _limit_cell(limit, values), cells)


def _limited(values: Sequence[_VariantValue]) -> tuple[Objective, float] | None:
    """The first objective with a limit, and the limit."""
    for objective in (value.objective for value in values):
        if objective is not None and objective.limit is not None:
            return objective, objective.limit
    return None


def _limit(values: Sequence[_VariantValue]) -> str:
    """The limit in its unit, empty without one; rounding moves it past none of the values."""
    limited = _limited(values)
    if limited is None:
        return ""
    objective, limit = limited
    numbers = [value.number for value in values if value.number is not None]
    return beside(numbers, limit, partial(written, objective.unit))[1]


def _limit_cell(limit: str, values: Sequence[_VariantValue]) -> str:
    """The limit with its sign, and as it was written where it is relative to the baseline."""
    limited = _limited(values)
    if limited is None:
        return ""
    objective, text = limited[0], limited[0].limit_text.strip()
    return f"{sign(objective)} {limit}{f' ({text})' if is_relative(text) else ''}"


def _cell(value: _VariantValue, unit: Scale, name: str, better: str, notes: list[str]) -> Cell:
    """The cell of a value in `unit`; `name` is the metric's own unit."""
    estimate = value.estimate
    outcome = value.objective.outcome if value.objective else None
    if estimate is None or estimate.value is None:
        note = _note(estimate.reason if estimate else None, notes)
        return Cell(ABSENT, outcome=outcome, note=note)
    low, high = unit(estimate.low), unit(estimate.high)
    between = "" if low == high or ABSENT in (low, high) else f"{low} to {high}"
    if value.is_baseline:
        return Cell(unit(estimate.value), between, effect="baseline", outcome=outcome)
    text = difference_text(value.difference, name)
    # "0.0 % better" says nothing.
    is_visible = any(digit in text for digit in "123456789")
    effect = effect_of(value.difference, better) if is_visible else ""
    return Cell(unit(estimate.value), between, text, effect, outcome)


def _apart(unit: Scale, values: Sequence[_VariantValue], limit: str) -> Scale:
    """`unit` with the decimals that show every value on its own side of the written limit."""
    pairs = [
        (value.number, value.objective.limit)
        for value in values
        if value.number is not None
        and value.objective is not None
        and value.objective.limit is not None
    ]
    written_limit = read(limit) if pairs else 0.0
    for more in range(MOST_DECIMALS):
        finer = replace(unit, decimals=unit.decimals + more)
        if all(side(finer.read(v), written_limit) == side(v, exact) for v, exact in pairs):
            return finer
    return unit


def _note(reason: str | None, notes: list[str]) -> int | None:
    """The number of the note with this reason, which is added where it is new."""
    if not reason:
        return None
    if reason not in notes:
        notes.append(reason)
    return notes.index(reason) + 1


def difference_text(changed: Difference | None, unit: str) -> str:
    """The difference in points for a share, in per cent for anything else.

    Without a relative difference (a baseline of zero) it is the absolute one.
    """
    if changed is None:
        return ""
    if unit != "share" and changed.relative.value is not None:
        return change(changed.relative.value)
    return "" if changed.absolute.value is None else difference(changed.absolute.value, unit)


def effect_of(changed: Difference | None, better: str) -> Effect:
    """Better or worse only where the interval of the difference leaves out zero.

    Without an interval (a size) the sign decides. `better` is "lower", "higher", or "" if neither.
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
