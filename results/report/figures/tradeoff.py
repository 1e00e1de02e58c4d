"""Quality against latency against cost, and latency against offered load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from markupsafe import Markup

from foundation.format import interval, quantity
from results.report.figures.frame import AxisLabel, limit_line, span, x_axis, y_axis
from results.report.figures.labels import Box, CurveEnd, Labelled, name_curves, write_labels
from results.report.figures.spread import LimitLine
from results.report.figures.svg import Axis, Drawing, dash, variant_class
from results.summary import Estimate


@dataclass(frozen=True)
class Point:
    """A variant's quality (0 to 1), latency (ms) and cost ($); each may be missing."""

    name: str
    slot: int
    quality: Estimate
    latency: Estimate
    cost: Estimate


@dataclass(frozen=True)
class _Mark:
    """A variant's marker on the screen."""

    point: Point
    x: float
    y: float
    radius: float


def quality_latency_cost(
    points: Sequence[Point],
    latency_label: str,
    cost_label: str,
    limit: LimitLine | None,
    floor: float | None,
    width: float = 1000,
) -> Markup:
    """Quality upwards, latency to the right, cost as the size of the marker.

    The shaded region meets the SLO, `limit`, and the quality floor, `floor`.
    """
    left, right, top, bottom = 56.0, width - 20.0, 34.0, 404.0
    drawing = Drawing(width, bottom + 46)
    latencies = [v for p in points for v in _ends(p.latency)] + ([limit.value] if limit else [])
    qualities = [v for p in points for v in _ends(p.quality)] + ([] if floor is None else [floor])
    x = Axis(*span(latencies, low=0.0), left, right)
    lowest, highest = span(qualities, pad=0.1)
    y = Axis(max(0.0, lowest), min(1.0, highest), bottom, top)
    _allowed(drawing, x, y, limit, floor)
    x_axis(drawing, x, top, bottom, AxisLabel(latency_label, "ms", ticks=7))
    y_axis(drawing, y, left, right, AxisLabel("Quality", "share"))
    limits = _limits(drawing, x, y, limit, floor)
    marks = _marks(points, x, y)
    whiskers = [box for mark in marks for box in _whiskers(drawing, x, y, mark)]
    for mark in sorted(marks, key=lambda mark: -mark.radius):
        hover = _values(mark.point, latency_label, cost_label)
        drawing.marker(mark.x, mark.y, mark.point.slot, mark.radius, hover, "mark see-through")
    labels = [_label(mark) for mark in marks]
    title = (left, top - 26, left + 70, top - 8)  # where the axis says what goes upwards
    write_labels(drawing, labels, [title, *limits, *whiskers], (left, top - 22, right, bottom))
    spoken = "; ".join(_values(mark.point, latency_label, cost_label) for mark in marks)
    return drawing.render(f"Quality against {latency_label} against {cost_label}", spoken)


def _ends(estimate: Estimate) -> list[float]:
    """The value and its interval, as far as they are known."""
    return [v for v in (estimate.value, estimate.low, estimate.high) if v is not None]


def _allowed(
    drawing: Drawing, x: Axis, y: Axis, limit: LimitLine | None, floor: float | None
) -> None:
    if limit is None and floor is None:
        return
    wide = (x(limit.value) if limit else x.end) - x.start
    tall = (y.start if floor is None else y(floor)) - y.end
    hover = "Meets the latency limit and the quality floor"
    drawing.rect(x.start, y.end, wide, tall, "allowed", hover)


def _limits(
    drawing: Drawing, x: Axis, y: Axis, limit: LimitLine | None, floor: float | None
) -> list[Box]:
    """Draws the lines of the limit and the floor; returns the places of their texts."""
    top, bottom, right = y.end, y.start, x.end
    boxes: list[Box] = []
    if limit:
        limit_line(drawing, x(limit.value), (top, bottom), limit.text, right)
    if floor is not None:
        drawing.line(x.start, y(floor), right, y(floor), "limit")
        text = f"quality floor {quantity(floor, 'share')}"
        drawing.text(right - 4, y(floor) + 15, text, "limit-text halo", "end")
        boxes.append((right - 160.0, y(floor), right, y(floor) + 20))
    if limit:
        boxes.append((x(limit.value), top, x(limit.value) + 160, top + 16))
    return boxes


def _marks(points: Sequence[Point], x: Axis, y: Axis) -> list[_Mark]:
    """The markers of the variants whose quality and latency are known; their area is the cost."""
    known = [
        (p, p.latency.value, p.quality.value)
        for p in points
        if p.latency.value is not None and p.quality.value is not None
    ]
    dearest = max([p.cost.value for p, _, _ in known if p.cost.value], default=0.0)
    return [
        _Mark(
            p,
            x(latency),
            y(quality),
            4 + 10 * sqrt((p.cost.value or 0.0) / dearest) if dearest else 6.0,
        )
        for p, latency, quality in known
    ]


def _whiskers(drawing: Drawing, x: Axis, y: Axis, mark: _Mark) -> list[Box]:
    """Draws the intervals of a marker's latency and quality; returns the places they cover."""
    css = f"whisker {variant_class(mark.point.slot)}"
    latency, quality = mark.point.latency, mark.point.quality
    boxes: list[Box] = []
    if latency.low is not None and latency.high is not None:
        start, end = x.clamp(latency.low), x.clamp(latency.high)
        drawing.whisker(start, end, mark.y, css)
        boxes.append((start, mark.y - 4, end, mark.y + 4))
    if quality.low is not None and quality.high is not None:
        low, high = y.clamp(quality.low), y.clamp(quality.high)
        drawing.upright_whisker(mark.x, low, high, css)
        boxes.append((mark.x - 4, high, mark.x + 4, low))
    return boxes


def _label(mark: _Mark) -> Labelled:
    cost = mark.point.cost.value
    text = "" if cost is None else quantity(cost, "$")
    return Labelled(mark.x, mark.y, mark.radius, mark.point.name, text)


def _values(point: Point, latency_label: str, cost_label: str) -> str:
    """The variant's known values with their intervals, in words."""
    parts = (
        ("quality", point.quality, "share"),
        (latency_label, point.latency, "ms"),
        (cost_label, point.cost, "$"),
    )
    return f"{point.name}: " + ", ".join(
        f"{label} {quantity(e.value, unit)}"
        + (f" ({interval(e.low, e.high, unit)})" if e.low is not None else "")
        for label, e, unit in parts
        if e.value is not None
    )


@dataclass(frozen=True)
class LoadCurve:
    """One variant's latency (ms) by offered load (requests/s), in rising order."""

    name: str
    slot: int
    loads: list[float]
    latencies: list[Estimate]


def latency_by_load(
    curves: Sequence[LoadCurve],
    load_label: str,
    latency_label: str,
    limit: LimitLine | None,
    width: float = 1000,
) -> Markup:
    """One curve per variant: its latency as the offered load rises."""
    left, right, top, bottom = 56.0, width - 150.0, 34.0, 324.0
    drawing = Drawing(width, bottom + 46)
    loads = [load for c in curves for load in c.loads]
    seen = [v for c in curves for e in c.latencies for v in (e.value, e.high) if v is not None]
    x = Axis(0.0, max(loads, default=1.0) * 1.06, left, right)
    y = Axis(*span([*seen, *([limit.value] if limit else [])], low=0.0), bottom, top)
    x_axis(drawing, x, top, bottom, AxisLabel(load_label, ticks=7))
    y_axis(drawing, y, left, right, AxisLabel(latency_label, "ms"))
    if limit:
        drawing.line(left, y(limit.value), right, y(limit.value), "limit")
        drawing.text(left + 6, y(limit.value) - 6, limit.text, "limit-text halo")
    ends = [
        CurveEnd(curve.name, curve.slot, *end)
        for curve in curves
        if (end := _load_curve(drawing, x, y, curve, latency_label)) is not None
    ]
    name_curves(drawing, right, ends)
    return drawing.render(f"{latency_label} by {load_label} and variant")


def _load_curve(
    drawing: Drawing, x: Axis, y: Axis, curve: LoadCurve, latency_label: str
) -> tuple[float, float] | None:
    """Draws a variant's known latencies; returns the end of the curve, None where none is known."""
    css = variant_class(curve.slot)
    known = [
        (load, estimate, estimate.value)
        for load, estimate in zip(curve.loads, curve.latencies, strict=True)
        if estimate.value is not None
    ]
    if not known:
        return None
    trace = [(x(load), y(latency)) for load, _, latency in known]
    drawing.path(trace, f"curve {css}", curve.name, dash(curve.slot))
    for (load, estimate, latency), (mark_x, mark_y) in zip(known, trace, strict=True):
        low, high = estimate.low, estimate.high
        if low is not None and high is not None:
            drawing.upright_whisker(mark_x, y(max(0.0, low)), y(high), f"whisker {css}")
        hover = f"{curve.name} at {load:g}: {latency_label} {quantity(latency, 'ms')}"
        drawing.marker(mark_x, mark_y, curve.slot, 4.5, hover)
    return trace[-1]
