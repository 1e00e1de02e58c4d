"""What a plan expected of a load beside what was measured there."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from foundation.format import interval, quantity
from results.report.figures.svg import Axis, Drawing, variant_class
from results.summary import Estimate

_HEIGHT = 40.0


@dataclass(frozen=True)
class AuditRow:
    """One metric in `unit`: the plan's expectation and the measurement, each with its interval.

    A plan without a model has only a `high`, the limit.
    """

    label: str
    unit: str
    planned: Estimate
    measured: Estimate

    def texts(self, estimate: Estimate) -> tuple[str, str]:
        """A value and what it lies between.

        The second is the interval, its upper end where it has only that, or why there is no value.
        """
        between = interval(estimate.low, estimate.high, self.unit)
        if estimate.low is None and estimate.high is not None:
            between = f"at most {quantity(estimate.high, self.unit)}"
        return quantity(estimate.value, self.unit), between or estimate.reason or ""


def planned_and_measured(name: str, slot: int, row: AuditRow, width: float = 530) -> Markup:
    """The plan of a metric as a bar, the measurement as a marker, on one scale from zero."""
    drawing, middle = Drawing(width, _HEIGHT), _HEIGHT / 2
    planned, measured = row.planned, row.measured
    values = [v for e in (planned, measured) for v in (e.value, e.low, e.high) if v]
    x = Axis(0.0, max(values, default=1.0) * 1.04 or 1.0, 1.0, width)
    drawing.line(x.start, 3, x.start, _HEIGHT - 3, "axis")
    css = variant_class(slot)
    if planned.high is not None:
        start = x.clamp(planned.low or 0.0)
        wide = max(2.0, x.clamp(planned.high) - start)
        drawing.rect(start, 5, wide, _HEIGHT - 10, f"band {css}", f"{name}: planned")
    if planned.value is not None:
        drawing.line(x(planned.value), 5, x(planned.value), _HEIGHT - 5, "limit-mark")
    if measured.low is not None and measured.high is not None:
        drawing.whisker(x.clamp(measured.low), x.clamp(measured.high), middle, f"whisker {css}")
    if measured.value is not None:
        hover = f"{name}: {row.label} measured {quantity(measured.value, row.unit)}"
        drawing.marker(x(measured.value), middle, slot, 5, hover)
    return drawing.render(f"{row.label}, planned beside measured, {name}")
