"""The comparison as rows of text: one for the page, the Markdown file and the terminal alike.

A row is a metric in one unit, a column a variant, so that the eye runs along a row to compare; the baseline comes first.
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
    """One variant's value: text in the row's unit, its 95 % interval, and the difference to the baseline.

    `effect` says whether the difference is shown to be better or worse, or unclear (its interval includes zero).
    `outcome` is that of the objective on this metric, where there is one. `note` numbers the reason for a missing value.
    """

    value: str
    interval: str = ""
    difference: str = ""
    effect: Effect = ""
    outcome: Outcome | None = None
    note: int | None = None

    @property
    def short(self) -> str:
        """Value and difference in one line, "≈" where the difference is within noise, "!" where the limit is not met."""
        sign = "≈ " if self.effect == "unclear" else ""
        changed = f" ({sign}{self.difference})" if self.difference else ""
        return f"{self.value}{' !' if self.outcome == 'fails' else ''}{changed}"


@dataclass(frozen=True)
class Row:
    """A metric: `title` is its label with its unit; `limit` what the objective on it asks, if there is one."""

    key: str
    label: str
    unit: str
    limit: str
    cells: list[Cell]

    @property
    def title(self) -> str:
        return f"{self.label}, {self.unit}" if self.unit else self.label


@dataclass(frozen=True)
class Column:
    title: str
    align: Literal["left", "right"]


@dataclass(frozen=True)
class Table:
    """`columns`: the metric, a column a variant, and the limit where one is set. `notes[i]` is what cells number i + 1."""

    columns: list[Column]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    @property
    def variants(self) -> list[str]:
        return [column.title for column in self.columns[1:] if column.title != LIMIT]

    @property
    def has_limits(self) -> bool:
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


_Found = tuple[Estimate | None, Difference | None]
LIMIT = "limit"
MOST_DECIMALS = 10
# More output tokens a second may be speed, or only longer answers: no direction is better in itself.
_NEITHER = frozenset({"output_tokens_per_s"})


def in_order(summary: Summary) -> list[VariantSummary]:
    """The baseline, then the others as the experiment lists them."""
    return sorted(summary.variants, key=lambda v: v.variant != summary.baseline)


def stage_of(variant: VariantSummary, stage: str | None = None) -> StageSummary | None:
    """A variant's numbers under one load; under the judged one where none is named."""
    return next((s for s in variant.stages if s.stage == (stage or variant.judged_stage)), None)


def estimate_of(
    variant: VariantSummary, key: str, stage: str | None = None
) -> tuple[Estimate | None, Difference | None]:
    """A metric and its difference to the baseline, of the stage if it is one's, else of the variant."""
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
    """The table of one stage (the judged one where none is named); with `verdicts`, limits and their outcomes too.

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
        found = [estimate_of(variant, key, stage) for variant in variants]
        asked = [objectives.get((variant.variant, key)) for variant in variants]
        if any(asked) or any(
            estimate is not None and estimate.value is not None for estimate, _ in found
        ):
            table.append(_row(summary, variants, key, found, asked, notes))
            continue
        for reason in dict.fromkeys(e.reason for e, _ in found if e is not None and e.reason):
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
    found: Sequence[_Found],
    asked: Sequence[Objective | None],
    notes: list[str],
) -> Row:
    metric = summary.metrics[key]
    limit = _limit(found, asked)
    unit = _apart(
        scale((e.value for e, _ in found if e is not None), metric.unit), found, asked, limit
    )
    better = "" if key in _NEITHER else metric.better
    cells = [
        _cell(
            estimate,
            changed,
            unit,
            metric.unit,
            better,
            variant.variant == summary.baseline,
            objective,
            notes,
        )
        for variant, (estimate, changed), objective in zip(variants, found, asked, strict=True)
    ]
    shown = "" if unit.unit in metric.label.split() else unit.unit
    return Row(key, capital(metric.label), shown, _limit_cell(limit, asked, metric.better), cells)


def _limit(found: Sequence[_Found], asked: Sequence[Objective | None]) -> str:
    """The limit in its unit, nothing where there is none; not rounded past any of the values."""
    objective = next((o for o in asked if o is not None and o.limit is not None), None)
    if objective is None or objective.limit is None:
        return ""
    values = [
        estimate.value
        for estimate, _ in found
        if estimate is not None and estimate.value is not None
    ]
    return beside(values, objective.limit, partial(written, objective.unit))[1]


def _limit_cell(limit: str, asked: Sequence[Objective | None], better: str) -> str:
    """With its sign, and as it was asked for where it is relative to the baseline."""
    said = next((o.limit_text.strip() for o in asked if o is not None and o.limit is not None), "")
    relative = said.endswith("x") or said[:1] in ("+", "-")
    return (
        f"{'≤' if better == 'lower' else '≥'} {limit}{f' ({said})' if relative else ''}"
        if limit
        else ""
    )


def _cell(
    estimate: Estimate | None,
    changed: Difference | None,
    unit: Scale,
    name: str,
    better: str,
    is_baseline: bool,
    objective: Objective | None,
    notes: list[str],
) -> Cell:
    outcome = objective.outcome if objective else None
    if estimate is None or estimate.value is None:
        return Cell(
            ABSENT, outcome=outcome, note=_note(estimate.reason if estimate else None, notes)
        )
    low, high = unit(estimate.low), unit(estimate.high)
    between = "" if low == high or ABSENT in (low, high) else f"{low} to {high}"
    if is_baseline:
        return Cell(unit(estimate.value), between, effect="baseline", outcome=outcome)
    said = difference_text(changed, name)
    effect = (
        effect_of(changed, better) if any(digit in said for digit in "123456789") else ""
    )  # "0.0 % better" says nothing
    return Cell(unit(estimate.value), between, said, effect, outcome)


def _apart(
    unit: Scale, found: Sequence[_Found], asked: Sequence[Objective | None], limit: str
) -> Scale:
    """With as many decimals as show every value on its own side of the limit, as that is written."""
    pairs = [
        (estimate.value, objective.limit)
        for (estimate, _), objective in zip(found, asked, strict=True)
        if estimate is not None
        and estimate.value is not None
        and objective is not None
        and objective.limit is not None
    ]
    scales = (replace(unit, decimals=unit.decimals + more) for more in range(MOST_DECIMALS))
    said = read(limit) if pairs else 0.0
    return next(
        (
            each
            for each in scales
            if all(side(each.read(v), said) == side(v, exact) for v, exact in pairs)
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
    """Points for shares, per cent for everything else; the absolute difference where the baseline's value is zero."""
    if changed is None:
        return ""
    if unit != "share" and changed.relative.value is not None:
        return change(changed.relative.value)
    return "" if changed.absolute.value is None else difference(changed.absolute.value, unit)


def effect_of(changed: Difference | None, better: str) -> Effect:
    """Better or worse only where the interval of the difference leaves out zero. Without an interval (a size) the sign decides.

    `better` is "lower", "higher", or "" where neither is.
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
