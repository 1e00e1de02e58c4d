"""The traffic of a day, and the replicas that it needs hour by hour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from foundation.arrays import Floats
from foundation.format import plain, significant
from results.report.figures.frame import TEXT, AxisLabel, band, known_pieces, tick_text, y_axis
from results.report.figures.svg import CHARACTER, Axis, Drawing, shorten, variant_class

_TRAFFIC, _REPLICAS, _GAP = 110.0, 170.0, 40.0


@dataclass(frozen=True)
class Day:
    """k spans of time, the last one up to `end`, in hours from `start[0]`.

    `traffic`: requests/s. `replicas`: that run in each span. `low` to `high`: the interval of those
    that it needs, NaN where not known. `fixed`: replicas where nobody scales; None: not known.
    """

    name: str
    slot: int
    start: Floats
    end: float
    traffic: Floats
    replicas: Floats
    low: Floats
    high: Floats
    fixed: float | None = None


def replicas_over_day(day: Day, width: float = 1000) -> Markup:
    """Above the traffic, under it the replicas as steps with their interval."""
    left, right, top = 56.0, width - 150.0, 34.0
    middle = top + _TRAFFIC
    foot = middle + _GAP + _REPLICAS
    drawing = Drawing(width, foot + 46)
    x = Axis(float(day.start[0]), day.end, left, right)
    traffic = Axis(0.0, _most(day.traffic) * 1.08, middle, top)
    counts = [*day.replicas, *day.high, *([] if day.fixed is None else [day.fixed])]
    replicas = Axis(0.0, _most(np.array(counts)) * 1.08, foot, middle + _GAP)
    _hours(drawing, x, ((top, middle), (middle + _GAP, foot)))
    y_axis(drawing, traffic, left, right, AxisLabel("Traffic, requests/s", ticks=3))
    y_axis(drawing, replicas, left, right, AxisLabel("Replicas", ticks=4))
    _steps(drawing, x, traffic, day, day.traffic, ("curve v0", "traffic"))
    edges = np.append(day.start, day.end)
    at = np.stack([edges[:-1], edges[1:]], axis=1).ravel()
    ends = (np.repeat(day.low, 2), np.repeat(day.high, 2))
    css = variant_class(day.slot)
    band(drawing, x, replicas, at, ends, f"band {css}")
    _steps(drawing, x, replicas, day, day.replicas, (f"curve {css}", f"{day.name}: replicas"))
    if day.fixed is not None:
        _fixed(drawing, x, replicas, day.fixed)
    _names(drawing, replicas, day)
    return drawing.render(f"Traffic and replicas of {day.name} over time", _in_words(day))


def _most(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size and finite.max() > 0 else 1.0


def _hours(drawing: Drawing, x: Axis, panes: tuple[tuple[float, float], ...]) -> None:
    """Grid lines through both panes, with times of day where the spans are a day."""
    is_day, is_short = x.low == 0 and x.high == 24, x.high - x.low < 2
    per = 60.0 if is_short else 1.0
    axis = Axis(x.low * per, x.high * per, x.start, x.end)
    ticks = [float(hour) for hour in range(0, 25, 3)] if is_day else axis.ticks(8)
    texts = [f"{tick:02.0f}:00" for tick in ticks] if is_day else tick_text(ticks, "")[1]
    for tick, text in zip(ticks, texts, strict=True):
        for top, bottom in panes:
            drawing.line(axis(tick), top, axis(tick), bottom, "grid")
        drawing.text(axis(tick), panes[-1][1] + 17, text, "tick", "middle")
    for _, bottom in panes:
        drawing.line(x.start, bottom, x.end, bottom, "axis")
    label = "Time of day" if is_day else "Minutes" if is_short else "Hours"
    drawing.text((x.start + x.end) / 2, panes[-1][1] + 37, label, "label", "middle")


def _steps(
    drawing: Drawing, x: Axis, y: Axis, day: Day, values: Floats, style: tuple[str, str]
) -> None:
    """A value in each span, as level lines joined upright; broken where it is not known."""
    css, title = style
    edges = np.append(day.start, day.end)
    for piece in known_pieces(np.isfinite(values)):
        points = [(x(edge), y(values[i])) for i in piece for edge in (edges[i], edges[i + 1])]
        drawing.path(points, css, title)


def _fixed(drawing: Drawing, x: Axis, y: Axis, fixed: float) -> None:
    text = f"{plain(fixed, 0)} all the time"
    drawing.line(x.start, y(fixed), x.end, y(fixed), "limit", text)
    drawing.text(x.end + 8, y(fixed) + 4, text, "limit-text")


def _names(drawing: Drawing, y: Axis, day: Day) -> None:
    """The variant's name behind the end of its steps, away from the line of `fixed`."""
    known = day.replicas[np.isfinite(day.replicas)]
    if not known.size:
        return
    place = y(float(known[-1])) + 4
    if day.fixed is not None and abs(place - 4 - y(day.fixed)) < 16:
        place = y(day.fixed) + 20
    name = shorten(day.name, drawing.width - 850 - TEXT * CHARACTER)
    drawing.text(drawing.width - 142, place, name, "name", title=day.name)


def _in_words(day: Day) -> str:
    """Least and most of traffic and replicas."""
    parts = []
    for label, values in (("requests/s", day.traffic), ("replicas", day.replicas)):
        known = values[np.isfinite(values)]
        if known.size:
            low, high = significant(float(known.min())), significant(float(known.max()))
            parts.append(f"{low} to {high} {label}")
    if day.fixed is not None:
        parts.append(f"{plain(day.fixed, 0)} replicas without scaling")
    return "; ".join(parts)
