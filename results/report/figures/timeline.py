"""Every request of a run and what the servers did meanwhile, on one time axis.

What lies in a pane is in the pane's own units, so a script zooms by its view box alone. Labels that
belong to a span of time carry it in those units as `data-from` and `data-to`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from foundation.arrays import Floats, Ints
from foundation.format import between, plain, quantity, scale
from results.report.figures.frame import TEXT, tick_text
from results.report.figures.svg import CHARACTER, Axis, Drawing, shorten, variant_class
from results.report.figures.thinning import columns_of, extremes, pieces

ACROSS, TALL, RIM = 20_000, 10_000, 400
"""A pane's width and height in its own units, fine enough to zoom into; over and under it a rim."""
# What keeps the page small: dots over all lanes, and points over all lines of telemetry.
MOST_DOTS, MOST_POINTS = 16_000, 30_000
_LEFT, _HEAD = 150.0, 30.0
_LANE, _PANEL = 62.0, 54.0
_GAP_S, _GAP_SAMPLES = 5.0, 5.0


@dataclass(frozen=True)
class TimelineBlock:
    """One block of one stage.

    `start` and `end`: its first and last moment, in seconds since the run's first block began.
    """

    stage: str
    number: int
    start: float
    end: float


@dataclass(frozen=True)
class Lane:
    """One variant's requests and blocks over the run.

    `due` (s) and `latency` (ms): of the answered requests. `failed` (s): when failed ones were due.
    """

    name: str
    slot: int
    due: Floats
    latency: Floats
    failed: Floats
    blocks: tuple[TimelineBlock, ...]


@dataclass(frozen=True)
class Trace:
    """One server's samples (n,): seconds since the run's first block began, and values or NaN."""

    name: str
    slot: int
    at: Floats
    values: Floats


@dataclass(frozen=True)
class Panel:
    """One number of all servers over time, in a unit of `foundation.format`."""

    label: str
    unit: str
    traces: tuple[Trace, ...]


@dataclass(frozen=True)
class _Frame:
    """Where panes lie: the drawing, and the run's seconds from left to right."""

    drawing: Drawing
    x: Axis

    def unit(self, seconds: Floats) -> Ints:
        """Moments in the units of a pane."""
        return np.rint(seconds / self.x.high * ACROSS).astype(np.int64)


def timeline(
    lanes: Sequence[Lane], panels: Sequence[Panel] = (), width: float = 1000
) -> tuple[Markup, bool]:
    """A lane a variant on its own height scale, then a panel a number of the servers.

    The second value says whether some lane has too many requests to draw each.
    """
    top = _HEAD
    middle = top + _LANE * len(lanes)
    bottom = middle + (10 + _PANEL * len(panels) if panels else 0)
    end = max((b.end for lane in lanes for b in lane.blocks), default=0.0) or 1.0
    drawing = Drawing(width, bottom + 46)
    frame = _Frame(drawing, Axis(0.0, end, _LEFT, width - 84.0))
    _time_axis(frame, top, bottom)
    drawing.text(width, top - 12, "top of lane", "tick", "end")
    _stages(frame, lanes)
    most = MOST_DOTS // max(1, len(lanes))
    for index, lane in enumerate(lanes):
        _lane(frame, lane, top + _LANE * index + 12, most)
    if panels:
        _panels(frame, lanes, panels, middle + 10)
    spoken = "; ".join([*map(_lane_in_words, lanes), *map(_panel_in_words, panels)])
    title = "Requests and servers over the time of the run, by variant and block"
    plot = drawing.render(title, spoken, data_seconds=f"{end:.6g}")
    return plot, any(lane.due.size > most for lane in lanes)


def _lane_in_words(lane: Lane) -> str:
    return (
        f"{lane.name}: {len(lane.blocks)} blocks, {lane.due.size} answered, "
        f"{lane.failed.size} failed"
    )


def _panel_in_words(panel: Panel) -> str:
    reaches = [
        f"{trace.name} "
        + between(
            *(_in_words(float(of(trace.values)), panel.unit) for of in (np.nanmin, np.nanmax))
        )
        for trace in panel.traces
    ]
    return f"{panel.label}: {', '.join(reaches)}"


def _in_words(value: float, unit: str) -> str:
    """A value with its unit; a whole number without decimals."""
    is_count = unit not in ("share", "bytes") and value.is_integer()
    if not is_count:
        return quantity(value, unit)
    return f"{plain(value, 0)} {unit.removesuffix('s') if value == 1 else unit}"


def _pane(frame: _Frame, top: float, height: float, label: str) -> AbstractContextManager[None]:
    """A part of the drawing with units of its own, the run's time from left to right."""
    return frame.drawing.element(
        "svg", "pane", x=frame.x.start, y=top, width=frame.x.end - frame.x.start, height=height,
        viewBox=f"0 {-RIM} {ACROSS} {TALL + 2 * RIM}", preserveAspectRatio="none", aria_label=label,
    )  # fmt: skip


def _time_axis(frame: _Frame, top: float, bottom: float) -> None:
    """Grid lines, their times and the label; the script writes them anew for a part of the run."""
    in_minutes = frame.x.high >= 120
    per, name = (60.0, "Minutes") if in_minutes else (1.0, "Seconds")
    axis = Axis(0.0, frame.x.high / per, frame.x.start, frame.x.end)
    ticks = axis.ticks(8)
    drawing = frame.drawing
    with drawing.element("g", "time-axis", data_top=top, data_bottom=bottom):
        for tick, text in zip(ticks, tick_text(ticks, "")[1], strict=True):
            drawing.line(axis(tick), top, axis(tick), bottom, "grid")
            drawing.text(axis(tick), bottom + 17, text, "tick", "middle")
        middle = (axis.start + axis.end) / 2
        label = f"{name} since the first request was due"
        drawing.text(middle, bottom + 37, label, "label", "middle")
    drawing.line(axis.start, bottom, axis.end, bottom, "axis")


def _stages(frame: _Frame, lanes: Sequence[Lane]) -> None:
    """The stages' names above the lanes, each over the time of its blocks."""
    blocks = sorted((b for lane in lanes for b in lane.blocks), key=lambda b: b.start)
    spans: list[tuple[str, float, float]] = []
    for block in blocks:
        if spans and spans[-1][0] == block.stage:
            stage, start, end = spans[-1]
            spans[-1] = (stage, start, max(end, block.end))
        else:
            spans.append((block.stage, block.start, block.end))
    for stage, start, end in spans:
        _over(frame, (start, end), _HEAD - 12, stage, "tick strong")


def _over(frame: _Frame, ends: tuple[float, float], y: float, text: str, css: str) -> None:
    """A label in the middle of a span of time, hidden where the span is too narrow for it."""
    start, end = (frame.x(moment) for moment in ends)
    first, last = (int(unit) for unit in frame.unit(np.array(ends)))
    fits = len(text) * TEXT * CHARACTER * 0.85 < end - start
    frame.drawing.text(
        (start + end) / 2, y, text, css, "middle", data_from=first, data_to=last,
        visibility="" if fits else "hidden",
    )  # fmt: skip


def _blocks(frame: _Frame, lane: Lane, has_hover: bool) -> None:
    """The lane's blocks as bands over the height of the pane."""
    for block in lane.blocks:
        start, end = frame.unit(np.array([block.start, block.end]))
        hover = f"{lane.name}, {block.stage}, block {block.number}" if has_hover else ""
        css = f"block {variant_class(lane.slot)}"
        frame.drawing.rect(float(start), -RIM, float(end - start), TALL + 2 * RIM, css, hover)


def _lane(frame: _Frame, lane: Lane, head: float, most: int) -> None:
    """The variant's blocks, and its requests up to their p99; failures as strokes at the top."""
    drawing, height = frame.drawing, _LANE - 16
    middle = head + height / 2 + 4
    name = shorten(lane.name, _LEFT - 14)
    drawing.text(_LEFT - 10, middle, name, "name", "end", title=lane.name)
    highest = (float(np.percentile(lane.latency, 99)) if lane.latency.size else 0.0) or 1.0
    drawing.text(drawing.width, middle, quantity(highest, "ms"), "tick", "end")
    for block in lane.blocks:
        _over(frame, (block.start, block.end), head - 3, str(block.number), "tiny")
    css = variant_class(lane.slot)
    with _pane(frame, head, height, f"Requests of {lane.name}"):
        _blocks(frame, lane, has_hover=True)
        if lane.due.size > most:
            _crowd(frame, lane, highest, most // 4)
        elif lane.due.size:
            order = np.argsort(lane.due, kind="stable")
            dots = _dots(frame.unit(lane.due[order]), _height(lane.latency[order], highest))
            _path(frame, dots, f"specks {css}", ("latency", lane.name), highest, "ms")
        strokes = "".join(f"M{u} {-RIM}v1800" for u in np.unique(frame.unit(lane.failed)))
        if strokes:
            drawing.path_data(strokes, "failure")


def _crowd(frame: _Frame, lane: Lane, highest: float, count: int) -> None:
    """Too many requests: a column's median as a dot, its least to greatest as a stroke."""
    gathered = columns_of(lane.due, lane.latency, frame.x.high, count)
    at, css = frame.unit(gathered.at), variant_class(lane.slot)
    ends = (_height(values, highest) for values in (gathered.low, gathered.high))
    strokes = (f"M{u} {low}V{high}" for u, low, high in zip(at, *ends, strict=True))
    frame.drawing.path_data("".join(strokes), f"reach {css}")
    dots = _dots(at, _height(gathered.middle, highest))
    _path(frame, dots, f"specks {css}", ("median latency", lane.name), highest, "ms")


def _panels(frame: _Frame, lanes: Sequence[Lane], panels: Sequence[Panel], top: float) -> None:
    """The panels over the bands of all blocks."""
    lines = sum(len(panel.traces) for panel in panels)
    with _pane(frame, top, _PANEL * len(panels), "Blocks of all variants"):
        for lane in lanes:
            _blocks(frame, lane, has_hover=False)
    for index, panel in enumerate(panels):
        _panel(frame, panel, top + _PANEL * index, MOST_POINTS // lines)


def _panel(frame: _Frame, panel: Panel, top: float, most: int) -> None:
    drawing, head, height = frame.drawing, top + 8, _PANEL - 10
    most_seen = max(float(np.nanmax(trace.values)) for trace in panel.traces)
    highest = most_seen if most_seen > 0 else 1.0
    middle, foot = head + height / 2 + 4, head + height
    drawing.text(_LEFT - 10, middle, panel.label, "name", "end")
    drawing.text(drawing.width, head + 8, _in_words(most_seen, panel.unit), "tick", "end")
    drawing.line(frame.x.start, foot, frame.x.end, foot, "grid")
    with _pane(frame, head, height, panel.label):
        for trace in panel.traces:
            line = _line(frame, trace, highest, most)
            css = f"level {variant_class(trace.slot)}"
            _path(frame, line, css, (panel.label, trace.name), highest, panel.unit)


def _line(frame: _Frame, trace: Trace, highest: float, most: int) -> str:
    """A trace as a path of at most `most` points, cut where samples are missing."""
    usual = float(np.median(np.diff(trace.at))) if trace.at.size > 1 else 0.0
    piece = pieces(trace.at, trace.values, max(_GAP_S, _GAP_SAMPLES * usual))
    there = ~np.isnan(trace.values)
    at, values, piece = trace.at[there], trace.values[there], piece[there]
    if at.size > most:
        kept = extremes(at, values, frame.x.high, most // 2)
        at, values, piece = at[kept], values[kept], piece[kept]
    u, v = frame.unit(at), _height(values, highest)
    begins = np.diff(piece, prepend=-1) != 0
    steps = zip(u, v, np.diff(u, prepend=0), np.diff(v, prepend=0), begins, strict=True)
    parts = (f"M{x} {y}h0" if begin else f"l{dx} {dy}" for x, y, dx, dy, begin in steps)
    return "".join(parts).replace(" -", "-")


def _dots(u: Ints, v: Ints) -> str:
    """Each point as a line of no length; round caps make it a dot."""
    steps = zip(np.diff(u, prepend=0), np.diff(v, prepend=0), strict=True)
    return "".join(f"m{dx} {dy}h0" for dx, dy in steps).replace(" -", "-")


def _height(values: Floats, highest: float) -> Ints:
    """Values up to `highest` in the units of a pane, from its top."""
    return np.rint((1 - np.clip(values / highest, 0, 1)) * TALL).astype(np.int64)


def _path(
    frame: _Frame, data: str, css: str, names: tuple[str, str], highest: float, unit: str
) -> None:
    """A path whose heights can be read back: the value at the top of the pane, and its unit."""
    shown = scale([highest], unit)
    frame.drawing.path_data(
        data, css, data_label=names[0], data_name=names[1],
        data_top=f"{highest * shown.factor:.6g}", data_unit=shown.unit,
    )  # fmt: skip
