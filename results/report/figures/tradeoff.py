"""Quality against latency against cost, and latency against offered load: where a variant can stand and still ship."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from markupsafe import Markup

from results.report.figures.frame import limit_line, span, x_axis, y_axis
from results.report.figures.spread import Limit
from results.report.format import interval, quantity
from results.report.svg import Axis, Drawing, dash, shorten, spread_labels, variant_class
from results.summary import Estimate


@dataclass(frozen=True)
class Point:
    """A variant's quality (0 to 1), latency (ms) and cost ($); any of them may be missing."""

    name: str
    slot: int
    quality: Estimate
    latency: Estimate
    cost: Estimate


def quality_latency_cost(
    points: Sequence[Point], latency_label: str, cost_label: str, limit: Limit | None, floor: float | None, width: float = 1000
) -> Markup:
    """Up and to the left is better; the marker's area is the cost. The region that the SLO and the quality floor allow is shaded."""
    left, right, top, bottom = 56.0, width - 150.0, 34.0, 384.0
    drawing = Drawing(width, bottom + 46)
    latencies = [v for p in points for v in (p.latency.value, p.latency.low, p.latency.high) if v is not None]
    qualities = [v for p in points for v in (p.quality.value, p.quality.low, p.quality.high) if v is not None]
    x = Axis(*span([*latencies, *([limit.value] if limit else [])], low=0.0), left, right)
    lowest, highest = span([*qualities, *([floor] if floor is not None else [])], pad=0.1)
    y = Axis(max(0.0, lowest), min(1.0, highest), bottom, top)
    if limit is not None or floor is not None:
        edge = x(limit.value) if limit else right
        foot = y(floor) if floor is not None else bottom
        drawing.rect(left, top, edge - left, foot - top, "allowed", "Meets the latency limit and the quality floor")
    x_axis(drawing, x, top, bottom, "ms", latency_label, count=7)
    y_axis(drawing, y, left, right, "share", "Quality")
    if limit:
        limit_line(drawing, x(limit.value), top, bottom, limit.text, right)
    if floor is not None:
        drawing.line(left, y(floor), right, y(floor), "limit")
        drawing.text(right - 4, y(floor) - 6, f"quality floor {quantity(floor, 'share')}", "limit-text halo", "end")
    placed = [p for p in points if p.latency.value is not None and p.quality.value is not None]
    costs = [p.cost.value for p in placed if p.cost.value]
    dearest = max(costs, default=0.0)
    for point in placed:
        _cross(drawing, x, y, point)
    for point in sorted(placed, key=lambda p: -(p.cost.value or 0.0)):
        radius = 5 + 13 * sqrt((point.cost.value or 0.0) / dearest) if dearest else 7.0
        drawing.marker(*_at(x, y, point), point.slot, radius, _said(point, latency_label, cost_label), "mark see-through")
    _labels(drawing, x, y, placed, dearest, right, top, bottom)
    if dearest:
        drawing.text(right + 24, bottom - 14, "marker area:", "tick")
        drawing.text(right + 24, bottom + 2, cost_label[:1].lower() + cost_label[1:], "tick")
    spoken = "; ".join(_said(p, latency_label, cost_label) for p in placed)
    return drawing.render(f"Quality against {latency_label} against {cost_label}", spoken)


def _at(x: Axis, y: Axis, point: Point) -> tuple[float, float]:
    return x(point.latency.value or 0.0), y(point.quality.value or 0.0)


def _cross(drawing: Drawing, x: Axis, y: Axis, point: Point) -> None:
    here, css = _at(x, y, point), f"whisker {variant_class(point.slot)}"
    if point.latency.low is not None and point.latency.high is not None:
        drawing.whisker(x(max(x.low, point.latency.low)), x(point.latency.high), here[1], css)
    if point.quality.low is not None and point.quality.high is not None:
        drawing.upright_whisker(here[0], y(max(y.low, point.quality.low)), y(min(y.high, point.quality.high)), css)


def _labels(
    drawing: Drawing, x: Axis, y: Axis, placed: Sequence[Point], dearest: float, right: float, top: float, bottom: float
) -> None:
    """Names in a column to the right of the plot, each with a thin line to its marker: they can never hide a marker."""
    wanted = [min(max(_at(x, y, p)[1], top + 8), bottom - 60) for p in placed]
    for point, label_y in zip(placed, spread_labels(wanted, 30.0), strict=True):
        mark_x, mark_y = _at(x, y, point)
        drawing.path([(mark_x, mark_y), (right + 8, label_y), (right + 20, label_y)], f"leader {variant_class(point.slot)}")
        drawing.text(right + 24, label_y + 1, shorten(point.name, 124), "name", title=point.name)
        if dearest:
            drawing.text(right + 24, label_y + 15, quantity(point.cost.value, "$"), "tick")


def _said(point: Point, latency_label: str, cost_label: str) -> str:
    parts = (("quality", point.quality, "share"), (latency_label, point.latency, "ms"), (cost_label, point.cost, "$"))
    return f"{point.name}: " + ", ".join(
        f"{label} {quantity(e.value, unit)}" + (f" ({interval(e, unit)})" if e.low is not None else "")
        for label, e, unit in parts
        if e.value is not None
    )


@dataclass(frozen=True)
class LoadCurve:
    """One variant's latency (ms) by offered load, in rising order."""

    name: str
    slot: int
    loads: list[float]
    latencies: list[Estimate]


def latency_by_load(
    curves: Sequence[LoadCurve], load_label: str, latency_label: str, limit: Limit | None, width: float = 1000
) -> Markup:
    """What each variant's latency does as more is asked of it."""
    left, right, top, bottom = 56.0, width - 150.0, 34.0, 324.0
    drawing = Drawing(width, bottom + 46)
    loads = [load for c in curves for load in c.loads]
    seen = [v for c in curves for e in c.latencies for v in (e.value, e.high) if v is not None]
    x = Axis(0.0, max(loads, default=1.0) * 1.06, left, right)
    y = Axis(*span([*seen, *([limit.value] if limit else [])], low=0.0), bottom, top)
    x_axis(drawing, x, top, bottom, "", load_label, count=7)
    y_axis(drawing, y, left, right, "ms", latency_label)
    if limit:
        drawing.line(left, y(limit.value), right, y(limit.value), "limit")
        drawing.text(left + 6, y(limit.value) - 6, limit.text, "limit-text halo")
    ends: list[tuple[LoadCurve, float, float]] = []
    for curve in curves:
        css = variant_class(curve.slot)
        known = [(load, e) for load, e in zip(curve.loads, curve.latencies, strict=True) if e.value is not None]
        if not known:
            continue
        trace = [(x(load), y(e.value or 0.0)) for load, e in known]
        drawing.path(trace, f"curve {css}", curve.name, dash(curve.slot))
        for (load, e), here in zip(known, trace, strict=True):
            if e.low is not None and e.high is not None:
                drawing.upright_whisker(here[0], y(max(0.0, e.low)), y(e.high), f"whisker {css}")
            drawing.marker(*here, curve.slot, 4.5, f"{curve.name} at {load:g}: {latency_label} {quantity(e.value, 'ms')}")
        ends.append((curve, *trace[-1]))
    for (curve, end_x, end_y), label_y in zip(ends, spread_labels([e[2] for e in ends], 18.0), strict=True):
        drawing.path([(end_x, end_y), (right + 8, label_y), (right + 20, label_y)], f"leader {variant_class(curve.slot)}")
        drawing.text(right + 24, label_y + 4, shorten(curve.name, 124), "name", title=curve.name)
    return drawing.render(f"{latency_label} by {load_label} and variant")
