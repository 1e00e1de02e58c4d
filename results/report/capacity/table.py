"""The variants of a plan side by side: a row a fact, a column a variant."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from foundation.format import ABSENT, between, interval, plain, quantity, significant
from results.capacity.plan.capacity_plan import CapacityPlan, Fleet, Merits, VariantCapacity
from results.capacity.plan.merits import scaled
from results.metrics import RECORDS
from results.summary import Estimate

_SMALL = 1e-3
_SOURCES = {"model": "its model", "measured": "measured loads", "search": "a search"}


@dataclass(frozen=True)
class Fact:
    """A cell: a text, what stands under it, and the number of the note that says why it lacks."""

    value: str
    under: str = ""
    note: int | None = None

    @property
    def short(self) -> str:
        """All of it in one line."""
        note = f" [{self.note}]" if self.note else ""
        return f"{self.value}{note}{f' ({self.under})' if self.under else ''}"


@dataclass(frozen=True)
class FactRow:
    """A fact with its unit, and a cell a variant."""

    label: str
    unit: str
    cells: list[Fact]


@dataclass(frozen=True)
class FactTable:
    """The rows that some variant has; a cell's `note` n refers to `notes[n - 1]`.

    `remarks`: what is said of no cell alone.
    """

    variants: list[str]
    rows: list[FactRow]
    notes: list[str]
    remarks: list[str] = field(default_factory=list)

    def texts(self) -> list[list[str]]:
        """A line a row: the label with its unit, then a text a variant."""
        return [
            [f"{row.label}, {row.unit}" if row.unit else row.label, *(c.short for c in row.cells)]
            for row in self.rows
        ]


FactCell = Fact | str | None
"""A cell as it is read. A text: why there is no value. None: no question for this variant."""


def fact_table(variants: list[str], rows: Iterable[tuple[str, str, list[FactCell]]]) -> FactTable:
    """The rows, each of a label, a unit and the variants' cells, that have a value somewhere.

    A row without a value is a remark with its reasons.
    """
    notes: list[str] = []
    left_out: dict[str, list[str]] = {}
    kept = []
    for label, unit, cells in rows:
        if any(isinstance(cell, Fact) for cell in cells):
            kept.append(FactRow(label, unit, [_fact(cell, notes) for cell in cells]))
            continue
        for reason in dict.fromkeys(cell for cell in cells if isinstance(cell, str)):
            left_out.setdefault(reason, []).append(label)
    remarks = [f"Left out: {', '.join(labels)}: {reason}" for reason, labels in left_out.items()]
    return FactTable(variants, kept, notes, remarks)


def facts(plan: CapacityPlan) -> FactTable:
    """The variants of a plan."""
    rows = [(label, unit, [read(v) for v in plan.variants]) for label, unit, read in _rows(plan)]
    return fact_table([v.variant for v in plan.variants], rows)


def _fact(cell: FactCell, notes: list[str]) -> Fact:
    if isinstance(cell, Fact):
        return cell
    if not cell:
        return Fact(ABSENT)
    if cell not in notes:
        notes.append(cell)
    return Fact(ABSENT, note=notes.index(cell) + 1)


Read = Callable[[VariantCapacity], FactCell]


def _has_several(variant: VariantCapacity) -> bool:
    """Whether a replica has several accelerators."""
    return variant.peak is not None and variant.peak.accelerators > variant.peak.replicas


def _rows(plan: CapacityPlan) -> list[tuple[str, str, Read]]:
    """Label, unit and reader of each row, in the order of the table."""
    accelerators: tuple[str, str, Read] = (
        "Accelerators for the peak", "", _of_peak(lambda f: Fact(f"{f.accelerators:,}")),
    )  # fmt: skip
    each: tuple[str, str, Read] = (
        "Requests/s an accelerator", "", _of_merits(lambda m: m.requests_per_accelerator, ""),
    )  # fmt: skip
    several = any(map(_has_several, plan.variants))
    return [
        ("One replica holds", "requests/s", _held),
        ("Known from", "", lambda v: Fact(_SOURCES[v.source]) if v.source else v.reason),
        ("Replicas for the peak", "", _of_peak(replicas_of)),
        *([accelerators] if several else []),
        ("Probability of missing the SLO", "", _of_peak(_missed)),
        ("Cost a month", "$", _cost),
        ("Cost a month, replicas that follow the day", "$", _day_cost),
        ("Replicas for the mean", "", lambda v: replicas_of(v.mean) if v.mean else None),
        *([each] if several else []),
        ("Cost per million requests", "", _of_merits(lambda m: m.cost_per_million, "$")),
        (
            "Cost per million correct answers",
            "",
            _of_merits(lambda m: scaled(m.cost_per_correct, 1e6), "$"),
        ),
        ("Energy per request", "", _of_merits(lambda m: m.joules_per_request, "J")),
        ("Quality", "", _of_merits(lambda m: m.quality, "share")),
        (_latency_label(plan), "", _of_merits(lambda m: m.latency, "ms")),
        ("Beaten by", "", _beaten(plan)),
    ]


def _held(variant: VariantCapacity) -> FactCell:
    """The rate with its interval; the lower end alone where nothing more is known."""
    rate, held = variant.rate, variant.rate_per_replica
    if held is None:
        return variant.reason or rate.reason
    if variant.lower_bound:
        return Fact(f"≥ {significant(held)}")
    if rate.low is None or rate.high is None:
        return Fact(significant(held))
    ends = between(significant(rate.low), significant(rate.high))
    return Fact(significant(held if rate.value is None else rate.value), ends)


def replicas_of(fleet: Fleet) -> Fact:
    """What to rent, and under it what it is likely, and at least, to take."""
    likely = "" if fleet.likely in (None, fleet.replicas) else f"likely {fleet.likely:,}"
    fewest = "" if fleet.fewest in (None, fleet.likely) else f"at least {fleet.fewest:,}"
    return Fact(f"{fleet.replicas:,}", ", ".join(text for text in (likely, fewest) if text))


def _missed(fleet: Fleet) -> FactCell:
    """The probability; under a thousandth its digits would say more than is known."""
    value = fleet.miss.value
    is_small = value is not None and value < _SMALL
    return (
        Fact(f"< {quantity(_SMALL, 'share')}") if is_small else estimate_fact(fleet.miss, "share")
    )


def _money(dollars: float) -> Fact:
    return Fact(plain(dollars, 0 if dollars >= 100 else 2))


def _cost(variant: VariantCapacity) -> FactCell:
    return variant.reason if variant.cost_per_month is None else _money(variant.cost_per_month)


def _day_cost(variant: VariantCapacity) -> Fact | None:
    day = variant.day
    if day is None or day.cost_per_month is None:
        return None
    always = day.constant_cost
    return Fact(
        _money(day.cost_per_month).value,
        "" if always is None else f"instead of {_money(always).value}",
    )


def _of_peak(read: Callable[[Fleet], FactCell]) -> Read:
    return lambda v: v.reason if v.peak is None else read(v.peak)


def _of_merits(of: Callable[[Merits], Estimate], unit: str) -> Read:
    return lambda v: None if v.merits is None else estimate_fact(of(v.merits), unit)


def estimate_fact(estimate: Estimate, unit: str) -> FactCell:
    """A value with its interval; a bound alone where there is no value."""
    low, high = estimate.low, estimate.high
    if estimate.value is not None:
        return Fact(quantity(estimate.value, unit), interval(low, high, unit))
    if not low:
        return estimate.reason if high is None else Fact(f"≤ {quantity(high, unit)}")
    return Fact(f"≥ {quantity(low, unit)}" if high is None else interval(low, high, unit))


def _latency_label(plan: CapacityPlan) -> str:
    keys = [v.merits.latency_metric for v in plan.variants if v.merits is not None]
    label = RECORDS[keys[0]].label if keys and keys[0] in RECORDS else "latency"
    return f"{label[:1].upper()}{label[1:]} as measured"


def _beaten(plan: CapacityPlan) -> Read:
    beaten_by = {point.variant: point.beaten_by or "nobody" for point in plan.pareto}
    return lambda v: Fact(beaten_by[v.variant]) if v.variant in beaten_by else None
