"""Dollars that fine-tuning has cost and saved, month after month, up to where they are even."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from foundation.format import between, significant
from results.report.figures.frame import TEXT, AxisLabel, band, span, x_axis, y_axis
from results.report.figures.labels import CurveEnd, name_curves
from results.report.figures.svg import CHARACTER, Axis, Drawing, dash, variant_class
from results.summary import Estimate

_LONGEST = 60.0
_USUAL = 12.0


@dataclass(frozen=True)
class Payback:
    """What tuning cost, in $, what it saves a month, in $, and the `months` until both are even."""

    name: str
    slot: int
    cost: float
    saved: Estimate
    months: Estimate


def cumulative_dollars(investments: Sequence[Payback], width: float = 1000) -> Markup:
    """A line a variant from what it cost, by what it saves a month; on zero, the months."""
    left, right, top, bottom = 70.0, width - 150.0, 34.0, 304.0
    known = [(each, lines) for each in investments if (lines := _cumulative(each)) is not None]
    drawing = Drawing(width, bottom + 46)
    x = Axis(0.0, _horizon(investments), left, right)
    month = np.array([x.low, x.high])
    reach = [v for _, line in known for at in line for v in (at[0], at[0] + at[1] * x.high)]
    y = Axis(*span([0.0, *reach]), bottom, top)
    x_axis(drawing, x, top, bottom, AxisLabel("Months", ticks=8))
    y_axis(drawing, y, left, right, AxisLabel("Saved so far, less what it cost", "$"))
    for each, (_, low, high) in known:
        both = (low[0] + low[1] * month, high[0] + high[1] * month)
        band(drawing, x, y, month, both, f"band {variant_class(each.slot)}")
    drawing.line(left, y(0.0), right, y(0.0), "zero")
    for each, (line, _, _) in known:
        points = [(x(m), y(line[0] + line[1] * m)) for m in month.tolist()]
        drawing.path(points, f"curve {variant_class(each.slot)}", each.name, dash(each.slot))
        _months(drawing, x, y, each)
    ends = [
        CurveEnd(each.name, each.slot, right, y(line[0] + line[1] * x.high))
        for each, (line, _, _) in known
    ]
    name_curves(drawing, right, ends)
    spoken = "; ".join(f"{each.name}: {_when(each.months)}" for each in investments)
    return drawing.render("Dollars saved by fine-tuning, less its cost, by month", spoken)


Line = tuple[float, float]  # dollars at the start, dollars a month


def _cumulative(each: Payback) -> tuple[Line, Line, Line] | None:
    """The value, and the low and high end of its interval; None where no saving is known."""
    saved = each.saved
    if saved.value is None:
        return None
    low, high = (saved.value if end is None else end for end in (saved.low, saved.high))
    return (-each.cost, saved.value), (-each.cost, low), (-each.cost, high)


def _horizon(investments: Sequence[Payback]) -> float:
    """Months to show: half as many again as it takes, at most five years."""
    months = [v for each in investments for v in (each.months.value, each.months.high) if v]
    finite = [value for value in months if np.isfinite(value)]
    return min(_LONGEST, max(1.0, 1.5 * max(finite))) if finite else _USUAL


def _months(drawing: Drawing, x: Axis, y: Axis, each: Payback) -> None:
    """The months to break even on the zero line, with their interval and in words."""
    months = each.months
    if months.value is None or months.value > x.high:
        return
    css = f"whisker {variant_class(each.slot)}"
    if months.low is not None and months.high is not None:
        drawing.whisker(x(months.low), x.clamp(months.high), y(0.0), css)
    drawing.marker(x(months.value), y(0.0), each.slot, 6, f"{each.name}: {_when(months)}")
    text = f"{significant(months.value, 2)} months"
    half = len(text) * TEXT * CHARACTER / 2
    place = min(max(x(months.value), x.start + half), x.end - half)
    drawing.text(place, y(0.0) - 12, text, "limit-text halo", "middle")


def _when(months: Estimate) -> str:
    if months.value is None:
        return months.reason or "not known"
    text = f"even after {significant(months.value, 2)} months"
    if months.low is None or months.high is None:
        return text
    return f"{text} ({between(significant(months.low, 2), significant(months.high, 2))})"
