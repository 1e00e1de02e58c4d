"""What each variant costs a month by traffic, and from what traffic on another one is cheapest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from foundation.arrays import Floats
from foundation.format import interval, quantity, significant
from results.report.figures.frame import AxisLabel, band, known_pieces, limit_line, x_axis, y_axis
from results.report.figures.labels import CurveEnd, Labelled, name_curves, write_labels
from results.report.figures.svg import Axis, Drawing, dash, variant_class

_LOG_FROM = 20.0
"""An axis is a log axis where its ends lie more than this factor apart."""


@dataclass(frozen=True)
class CostCurve:
    """A variant's $ a month by traffic, requests/s (k,), with its interval; NaN: not known."""

    name: str
    slot: int
    traffic: Floats
    cost: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class CheapestFrom:
    """From `traffic` requests/s on, at `cost` $ a month, the variant `name` is the cheapest."""

    name: str
    slot: int
    traffic: float
    cost: float


def cost_by_traffic(
    curves: Sequence[CostCurve],
    changes: Sequence[CheapestFrom],
    peak: float,
    width: float = 1000,
) -> Markup:
    """A line a variant; its marker where it becomes the cheapest; the planned peak."""
    left, right, top, bottom = 70.0, width - 150.0, 34.0, 344.0
    drawing = Drawing(width, bottom + 46)
    x = _axis([*_all(curves, "traffic"), peak], left, right)
    y = _axis([c for name in ("cost", "low", "high") for c in _all(curves, name)], bottom, top)
    x_axis(drawing, x, top, bottom, AxisLabel("Traffic, requests/s", ticks=8))
    y_axis(drawing, y, left, right, AxisLabel("Cost a month", "$"))
    for curve in curves:
        ends = (_on_axis(curve.low, y), _on_axis(curve.high, y))
        band(drawing, x, y, curve.traffic, ends, f"band {variant_class(curve.slot)}")
    lines = [
        CurveEnd(curve.name, curve.slot, *end)
        for curve in curves
        if (end := _line(drawing, x, y, curve)) is not None
    ]
    limit_line(drawing, x(peak), (top, bottom), f"peak {significant(peak)} requests/s", right, True)
    _changes(drawing, x, y, changes)
    name_curves(drawing, right, lines)
    return drawing.render("Cost a month by traffic and variant", _in_words(curves, changes, peak))


def _all(curves: Sequence[CostCurve], name: str) -> list[float]:
    values = [float(v) for curve in curves for v in getattr(curve, name)]
    return [value for value in values if np.isfinite(value)]


def _axis(values: Sequence[float], start: float, end: float) -> Axis:
    """An axis over positive values, from zero or a log one where they lie far apart."""
    least, most = min(values, default=0.0), max(values, default=1.0) or 1.0
    if least > 0 and most / least > _LOG_FROM:
        return Axis(least * 0.9, most * 1.1, start, end, log=True)
    return Axis(0.0, most * 1.06, start, end)


def _on_axis(values: Floats, y: Axis) -> Floats:
    """The finite ends of a band on the axis, which a log axis does not have down to zero."""
    return np.where(np.isfinite(values), np.clip(values, y.low, y.high), np.nan)


def _line(drawing: Drawing, x: Axis, y: Axis, curve: CostCurve) -> tuple[float, float] | None:
    """Draws the known costs in pieces; returns the end of the last, None where none is known."""
    known, css = np.isfinite(curve.cost), f"curve {variant_class(curve.slot)}"
    if not known.any():
        return None
    for piece in known_pieces(known):
        points = [(x(curve.traffic[i]), y(curve.cost[i])) for i in piece]
        drawing.path(points, css, curve.name, dash(curve.slot))
    last = int(np.flatnonzero(known)[-1])
    return (x(curve.traffic[last]), y(curve.cost[last]))


def _changes(drawing: Drawing, x: Axis, y: Axis, changes: Sequence[CheapestFrom]) -> None:
    """The variant's marker at each break-even point, with a thin line down to its traffic."""
    marks: list[Labelled] = []
    for change in changes:
        at = (x(change.traffic), y(change.cost))
        traffic = f"from {significant(change.traffic)} requests/s"
        drawing.line(at[0], at[1], at[0], y.start, "joint")
        drawing.marker(*at, change.slot, 6.5, f"{change.name} is the cheapest {traffic}")
        marks.append(Labelled(*at, 6, change.name, traffic))
    write_labels(drawing, marks, (), (x.start, y.end - 20, x.end, y.start))


def _in_words(curves: Sequence[CostCurve], changes: Sequence[CheapestFrom], peak: float) -> str:
    """The costs at the peak, and the break-even points."""
    parts = []
    for curve in curves:
        known = np.isfinite(curve.cost)
        if not known.any() or peak > curve.traffic[known].max():
            parts.append(f"{curve.name}: not known at the peak")
            continue
        values = (
            float(np.interp(peak, curve.traffic[known], each[known]))
            for each in (curve.cost, curve.low, curve.high)
        )
        cost, low, high = (value if np.isfinite(value) else None for value in values)
        around = interval(low, high, "$")
        parts.append(f"{curve.name}: {quantity(cost, '$')}{f' ({around})' if around else ''}")
    parts += [
        f"{change.name} is the cheapest from {significant(change.traffic)} requests/s"
        for change in changes
    ]
    return "; ".join(parts)
