"""Which variants no other one beats: quality against cost, and against latency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from foundation.format import interval, quantity
from results.report.figures.frame import AxisLabel, limit_line, span, x_axis, y_axis
from results.report.figures.labels import Box, Labelled, write_labels
from results.report.figures.spread import LimitLine
from results.report.figures.svg import Axis, Drawing, variant_class
from results.summary import Estimate

_GAP = 76.0


@dataclass(frozen=True)
class FrontPoint:
    """A variant's quality (0 to 1), latency (ms) and cost ($), as they are planned.

    `beaten_by`: a variant that is as good in all three and better in one; None: on the front.
    """

    name: str
    slot: int
    quality: Estimate
    latency: Estimate
    cost: Estimate
    beaten_by: str | None = None


@dataclass(frozen=True)
class FrontLabels:
    """What latency and cost are, and the limits on them and on quality where there are any."""

    latency: str
    cost: str
    limit: LimitLine | None = None
    floor: float | None = None


def pareto_front(points: Sequence[FrontPoint], labels: FrontLabels, width: float = 1000) -> Markup:
    """A pane for cost and one for latency, with one axis of quality.

    A pane without a known value is left out. Pale markers are beaten, and say by whom.
    """
    left, right, top, bottom = 56.0, width - 16.0, 34.0, 304.0
    wide = (right - left - _GAP) / 2
    drawing = Drawing(width, bottom + 46)
    qualities = [v for p in points for v in _ends(p.quality)]
    floor = labels.floor
    lowest, highest = span([*qualities, *([] if floor is None else [floor])], pad=0.12)
    y = Axis(max(0.0, lowest), min(1.0, highest), bottom, top)
    limits = [labels.limit.value] if labels.limit else []
    panes: list[tuple[str, str, _Read, list[float]]] = [
        ("$", labels.cost, _cost, []),
        ("ms", labels.latency, _latency, limits),
    ]
    known = [pane for pane in panes if any(pane[2](p).value is not None for p in points)]
    for index, (unit, label, of, extra) in enumerate(known):
        start = left + index * (wide + _GAP)
        ends = [v for p in points for v in _ends(of(p))]
        x = Axis(*span([*ends, *extra], low=0.0), start, start + wide)
        x_axis(drawing, x, top, bottom, AxisLabel(label, unit, ticks=5))
        y_axis(drawing, y, start, start + wide, AxisLabel("Quality", "share"))
        if floor is not None:
            drawing.line(x.start, y(floor), x.end, y(floor), "limit", "quality floor")
        if extra and labels.limit:
            limit_line(drawing, x(extra[0]), (top, bottom), labels.limit.text, x.end, low=True)
        _points(drawing, x, y, points, of)
    spoken = "; ".join(_in_words(point, labels) for point in points)
    return drawing.render(f"Quality against {labels.cost} and against {labels.latency}", spoken)


_Read = Callable[[FrontPoint], Estimate]


def _cost(point: FrontPoint) -> Estimate:
    return point.cost


def _latency(point: FrontPoint) -> Estimate:
    return point.latency


def _ends(estimate: Estimate) -> list[float]:
    """The value and its interval, as far as they are known."""
    return [v for v in (estimate.value, estimate.low, estimate.high) if v is not None]


def _points(drawing: Drawing, x: Axis, y: Axis, points: Sequence[FrontPoint], of: _Read) -> None:
    """The front's steps, then whiskers, markers and names of the variants known in this pane."""
    known = [
        (point, x(across), y(quality))
        for point in points
        if (across := of(point).value) is not None and (quality := point.quality.value) is not None
    ]
    _steps(drawing, x, y, [(px, py) for point, px, py in known if point.beaten_by is None])
    free: list[Box] = []
    for point, px, py in known:
        pale = "" if point.beaten_by is None else " pale"
        css = f"whisker {variant_class(point.slot)}{pale}"
        level, upright = of(point), point.quality
        if level.low is not None and level.high is not None:
            drawing.whisker(x.clamp(level.low), x.clamp(level.high), py, css)
            free.append((x.clamp(level.low), py - 4, x.clamp(level.high), py + 4))
        if upright.low is not None and upright.high is not None:
            drawing.upright_whisker(px, y.clamp(upright.low), y.clamp(upright.high), css)
            free.append((px - 4, y.clamp(upright.high), px + 4, y.clamp(upright.low)))
        drawing.marker(px, py, point.slot, 6, _beaten(point), f"mark{pale}")
    marks = [Labelled(px, py, 6, point.name) for point, px, py in known]
    write_labels(drawing, marks, free, (x.start, y.end, x.end, y.start))


def _steps(drawing: Drawing, x: Axis, y: Axis, front: Sequence[tuple[float, float]]) -> None:
    """The best quality that can be had up to each place of the axis, as steps."""
    best, points = y.start, []
    for px, py in sorted(front):
        if py < best:
            points += [(px, best), (px, py)]
            best = py
    if points:
        drawing.path([*points, (x.end, best)], "front")


def _beaten(point: FrontPoint) -> str:
    if point.beaten_by is None:
        return f"{point.name}: no other variant beats it"
    return f"{point.name}: beaten by {point.beaten_by}"


def _in_words(point: FrontPoint, labels: FrontLabels) -> str:
    parts = [
        f"{label} {quantity(each.value, unit)}{f' ({around})' if around else ''}"
        for label, each, unit in (
            ("quality", point.quality, "share"),
            (labels.cost, point.cost, "$"),
            (labels.latency, point.latency, "ms"),
        )
        if each.value is not None
        for around in (interval(each.low, each.high, unit),)
    ]
    return ", ".join([_beaten(point), *parts])
