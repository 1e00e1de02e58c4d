"""Quality against latency against cost, and latency against offered load: where a variant can stand and still ship."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from markupsafe import Markup

from foundation.format import interval, quantity
from results.report.figures.frame import limit_line, span, x_axis, y_axis
from results.report.figures.spread import Limit
from results.report.figures.svg import (
    CHARACTER,
    Axis,
    Drawing,
    dash,
    shorten,
    spread_labels,
    variant_class,
)
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
    points: Sequence[Point],
    latency_label: str,
    cost_label: str,
    limit: Limit | None,
    floor: float | None,
    width: float = 1000,
) -> Markup:
    """Up and to the left is better; a marker's size is the cost. What the SLO and the quality floor allow is shaded."""
    left, right, top, bottom = 56.0, width - 20.0, 34.0, 404.0
    drawing = Drawing(width, bottom + 46)
    latencies = [
        v for p in points for v in (p.latency.value, p.latency.low, p.latency.high) if v is not None
    ]
    qualities = [
        v for p in points for v in (p.quality.value, p.quality.low, p.quality.high) if v is not None
    ]
    x = Axis(*span([*latencies, *([limit.value] if limit else [])], low=0.0), left, right)
    lowest, highest = span([*qualities, *([floor] if floor is not None else [])], pad=0.1)
    y = Axis(max(0.0, lowest), min(1.0, highest), bottom, top)
    if limit is not None or floor is not None:
        edge = x(limit.value) if limit else right
        foot = y(floor) if floor is not None else bottom
        drawing.rect(
            left,
            top,
            edge - left,
            foot - top,
            "allowed",
            "Meets the latency limit and the quality floor",
        )
    x_axis(drawing, x, top, bottom, "ms", latency_label, count=7)
    y_axis(drawing, y, left, right, "share", "Quality")
    if limit:
        limit_line(drawing, x(limit.value), top, bottom, limit.text, right)
    if floor is not None:
        drawing.line(left, y(floor), right, y(floor), "limit")
        drawing.text(
            right - 4,
            y(floor) + 15,
            f"quality floor {quantity(floor, 'share')}",
            "limit-text halo",
            "end",
        )
    placed = [p for p in points if p.latency.value is not None and p.quality.value is not None]
    dearest = max([p.cost.value for p in placed if p.cost.value], default=0.0)
    marks = [
        (p, x(p.latency.value or 0.0), y(p.quality.value or 0.0), _radius(p, dearest))
        for p in placed
    ]
    for point, mark_x, mark_y, _ in marks:
        _cross(drawing, x, y, point, mark_x, mark_y)
    for point, mark_x, mark_y, radius in sorted(marks, key=lambda mark: -mark[3]):
        drawing.marker(
            mark_x,
            mark_y,
            point.slot,
            radius,
            _said(point, latency_label, cost_label),
            "mark see-through",
        )
    written = [(right - 160.0, y(floor), right, y(floor) + 20)] if floor is not None else []
    written += [(x(limit.value), top, x(limit.value) + 160, top + 16)] if limit else []
    whiskers = [
        box
        for point, mark_x, mark_y, _ in marks
        for box in _whisker_boxes(x, y, point, mark_x, mark_y)
    ]
    _labels(drawing, marks, [*written, *whiskers], (left, top - 22, right, bottom))
    spoken = "; ".join(_said(p, latency_label, cost_label) for p in placed)
    return drawing.render(f"Quality against {latency_label} against {cost_label}", spoken)


def _radius(point: Point, dearest: float) -> float:
    return 4 + 10 * sqrt((point.cost.value or 0.0) / dearest) if dearest else 6.0


Box = tuple[float, float, float, float]  # left, top, right, bottom
_LINE = 15.0


def _cross(drawing: Drawing, x: Axis, y: Axis, point: Point, mark_x: float, mark_y: float) -> None:
    css = f"whisker {variant_class(point.slot)}"
    if point.latency.low is not None and point.latency.high is not None:
        drawing.whisker(x.clamp(point.latency.low), x.clamp(point.latency.high), mark_y, css)
    if point.quality.low is not None and point.quality.high is not None:
        drawing.upright_whisker(
            mark_x, y.clamp(point.quality.low), y.clamp(point.quality.high), css
        )


def _whisker_boxes(x: Axis, y: Axis, point: Point, mark_x: float, mark_y: float) -> list[Box]:
    found: list[Box] = []
    if point.latency.low is not None and point.latency.high is not None:
        found.append(
            (x.clamp(point.latency.low), mark_y - 4, x.clamp(point.latency.high), mark_y + 4)
        )
    if point.quality.low is not None and point.quality.high is not None:
        found.append(
            (mark_x - 4, y.clamp(point.quality.high), mark_x + 4, y.clamp(point.quality.low))
        )
    return found


def _labels(
    drawing: Drawing,
    marks: Sequence[tuple[Point, float, float, float]],
    kept_free: Sequence[Box],
    plot: Box,
) -> None:
    """Name and cost beside each marker: at the first of a ring of places where they cover neither a marker nor another label."""
    taken: list[Box] = [*((x - r, y - r, x + r, y + r) for _, x, y, r in marks), *kept_free]
    for point, x, y, radius in marks:
        name, cost = (
            shorten(point.name, 150),
            quantity(point.cost.value, "$") if point.cost.value is not None else "",
        )
        wide, tall = max(len(name), len(cost)) * 12 * CHARACTER + 4, _LINE * (2 if cost else 1)
        places = [
            (
                x + dx * (radius + 8 + far) - (wide if dx < 0 else wide / 2 if dx == 0 else 0),
                y + dy * (radius + 6 + far + tall / 2) - tall / 2,
            )
            for far in (0.0, 14.0, 30.0, 48.0, 70.0)
            for dx, dy in ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1))
        ]
        boxes = [(left, top, left + wide, top + tall) for left, top in places]
        free = [
            box
            for box in boxes
            if _inside(box, plot) and not any(_overlap(box, other) for other in taken)
        ]
        left, top, _, foot = free[0] if free else boxes[0]
        taken.append((left, top, left + wide, foot))
        drawing.text(left, top + 11, name, "name halo", title=point.name)
        if cost:
            drawing.text(left, top + 11 + _LINE, cost, "tick halo")


def _inside(box: Box, plot: Box) -> bool:
    return box[0] >= plot[0] and box[1] >= plot[1] and box[2] <= plot[2] and box[3] <= plot[3]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _said(point: Point, latency_label: str, cost_label: str) -> str:
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
    """One variant's latency (ms) by offered load, in rising order."""

    name: str
    slot: int
    loads: list[float]
    latencies: list[Estimate]


def latency_by_load(
    curves: Sequence[LoadCurve],
    load_label: str,
    latency_label: str,
    limit: Limit | None,
    width: float = 1000,
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
        known = [
            (load, e)
            for load, e in zip(curve.loads, curve.latencies, strict=True)
            if e.value is not None
        ]
        if not known:
            continue
        trace = [(x(load), y(e.value or 0.0)) for load, e in known]
        drawing.path(trace, f"curve {css}", curve.name, dash(curve.slot))
        for (load, e), here in zip(known, trace, strict=True):
            if e.low is not None and e.high is not None:
                drawing.upright_whisker(here[0], y(max(0.0, e.low)), y(e.high), f"whisker {css}")
            drawing.marker(
                *here,
                curve.slot,
                4.5,
                f"{curve.name} at {load:g}: {latency_label} {quantity(e.value, 'ms')}",
            )
        ends.append((curve, *trace[-1]))
    for (curve, end_x, end_y), label_y in zip(
        ends, spread_labels([e[2] for e in ends], 18.0), strict=True
    ):
        drawing.path(
            [(end_x, end_y), (right + 8, label_y), (right + 20, label_y)],
            f"leader {variant_class(curve.slot)}",
        )
        drawing.text(right + 24, label_y + 4, shorten(curve.name, 124), "name", title=curve.name)
    return drawing.render(f"{latency_label} by {load_label} and variant")
