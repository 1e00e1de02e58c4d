"""What a plan expected of a load beside what was measured there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from foundation.format import interval, quantity
from results.report.figures.svg import Axis, Drawing, shorten, variant_class
from results.summary import Estimate

_LINE = 46.0


@dataclass(frozen=True)
class AuditRow:
    """One metric in `unit`: the plan's expectation and the measurement, each with its interval.

    A plan without a model has only a `high`, the limit.
    """

    label: str
    unit: str
    planned: Estimate
    measured: Estimate


def planned_and_measured(
    name: str, slot: int, rows: Sequence[AuditRow], width: float = 1000
) -> Markup:
    """A row a metric, each from zero on a scale of its own: the plan above, measured under it."""
    left, right, top = 150.0, width - 320.0, 24.0
    drawing = Drawing(width, top + _LINE * len(rows) + 4)
    drawing.text(width - 160, top - 10, "planned", "tick", "end")
    drawing.text(width, top - 10, "measured", "tick", "end")
    for index, row in enumerate(rows):
        _row(drawing, (left, right), top + _LINE * index, row, (name, slot))
    spoken = "; ".join(_in_words(row) for row in rows)
    return drawing.render(f"Planned beside measured, {name}", spoken)


def _row(
    drawing: Drawing, ends: tuple[float, float], top: float, row: AuditRow, of: tuple[str, int]
) -> None:
    middle, (name, slot) = top + _LINE / 2, of
    values = [v for e in (row.planned, row.measured) for v in (e.value, e.low, e.high) if v]
    x = Axis(0.0, max(values, default=1.0) * 1.04 or 1.0, *ends)
    label = shorten(row.label, x.start - 16)
    drawing.text(x.start - 14, middle + 4, label, "name", "end", title=row.label)
    drawing.line(x.start, top + _LINE, drawing.width, top + _LINE, "grid")
    drawing.line(x.start, top + 6, x.start, top + _LINE - 6, "axis")
    css, planned, measured = variant_class(slot), row.planned, row.measured
    if planned.high is not None:
        start = x.clamp(planned.low or 0.0)
        wide = max(2.0, x.clamp(planned.high) - start)
        drawing.rect(start, top + 8, wide, _LINE - 16, f"band {css}", f"{name}: planned")
    if planned.value is not None:
        drawing.line(x(planned.value), top + 8, x(planned.value), top + _LINE - 8, "limit-mark")
    if measured.low is not None and measured.high is not None:
        drawing.whisker(x.clamp(measured.low), x.clamp(measured.high), middle, f"whisker {css}")
    if measured.value is not None:
        hover = f"{name}: {row.label} measured {quantity(measured.value, row.unit)}"
        drawing.marker(x(measured.value), middle, slot, 5, hover)
    for place, estimate in ((drawing.width - 160, planned), (drawing.width, measured)):
        drawing.text(place, middle, quantity(estimate.value, row.unit), "value", "end")
        drawing.text(place, middle + 15, _around(row, estimate), "tick", "end")


def _around(row: AuditRow, estimate: Estimate) -> str:
    """The interval, its upper end where it has only that, or the reason for no value."""
    if estimate.low is None and estimate.high is not None:
        return f"at most {quantity(estimate.high, row.unit)}"
    return interval(estimate.low, estimate.high, row.unit) or estimate.reason or ""


def _in_words(row: AuditRow) -> str:
    texts = []
    for word, estimate in (("planned", row.planned), ("measured", row.measured)):
        around = _around(row, estimate)
        value = quantity(estimate.value, row.unit)
        texts.append(f"{word} {value}{f' ({around})' if around else ''}")
    return f"{row.label}: {', '.join(texts)}"
