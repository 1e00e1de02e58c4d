"""Where the time goes: stacked segments, and the bridge from the baseline's latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from foundation.format import ABSENT, interval, percent, quantity, signed
from results.report.figures.frame import TEXT, AxisLabel, span, x_axis
from results.report.figures.svg import CHARACTER, Axis, Drawing, shorten
from results.report.segments import MEANINGS, is_large, milliseconds, name_of
from results.summary import Estimate, Waterfall, WaterfallDifference

_LEFT = 150.0
_TALL = 30.0
_OUTSIDE = 3


def stacks(rows: Sequence[tuple[str, Waterfall]], width: float = 1000) -> Markup:
    """The mean time of a request, one bar a variant, stacked from its segments.

    A row is a variant's name and its waterfall. Name, mean and share stand in a segment with room
    for them, or the mean alone. Beside the bar stand the largest of the others.
    """
    top, step, right = 30.0, 46.0, width - 190.0
    bottom = top + step * len(rows)
    drawing = Drawing(width, bottom + 46)
    ends = [end for _, w in rows for end in (w.total.value, w.total.high, *_ends(w))]
    x = Axis(0.0, (max((e for e in ends if e is not None), default=0) or 1.0) * 1.02, _LEFT, right)
    x_axis(drawing, x, top, bottom, AxisLabel("Mean time of a request", "ms", ticks=7))
    drawing.text(width, top - 12, "in all (95 % interval)", "tick", "end")
    for index, (name, waterfall) in enumerate(rows):
        y = top + step * index + 4
        drawing.text(_LEFT - 10, y + 19, shorten(name, _LEFT - 14), "name", "end", title=name)
        _stack(drawing, x, y, name, waterfall)
        total = waterfall.total
        drawing.text(width, y + 13, quantity(total.value, "ms"), "value strong", "end")
        drawing.text(width, y + 28, interval(total.low, total.high, "ms"), "tick", "end")
    spoken = "; ".join(
        f"{name}: "
        + ", ".join(
            f"{name_of(key)} {quantity(s.mean.value, 'ms')}" for key, s in w.segments.items()
        )
        for name, w in rows
    )
    return drawing.render("Where the time of a request goes, by variant", spoken)


def _ends(waterfall: Waterfall) -> list[float]:
    """Where each segment's bar ends; a negative mean steps back."""
    ends, end = [], 0.0
    for segment in waterfall.segments.values():
        end += segment.mean.value or 0.0
        ends.append(end)
    return ends


def _stack(drawing: Drawing, x: Axis, y: float, name: str, waterfall: Waterfall) -> None:
    start, outside = 0.0, []
    for (key, segment), end in zip(waterfall.segments.items(), _ends(waterfall), strict=True):
        mean, share = segment.mean, segment.share.value
        low, high = (x(edge) for edge in sorted((start, end)))
        text = quantity(mean.value, "ms")
        around = interval(mean.low, mean.high, "ms")
        hover = f"{name}: {name_of(key)} {text}{f' ({around})' if around else ''}"
        hover += "" if share is None else f", {percent(share)}"
        if mean.value:
            drawing.rect(low, y, high - low, _TALL, f"segment {segment_class(key)}", hover)
        is_inside = _inside(drawing, (low + high) / 2, y, high - low, (name_of(key), text, share))
        if not is_inside and is_large(waterfall, mean.value):
            outside.append((mean.value or 0.0, f"{name_of(key)} {text}"))
        start = end
    total = waterfall.total
    if total.low is not None and total.high is not None:
        drawing.whisker(x(total.low), x(total.high), y + _TALL + 6, "whisker ink", cap=4)
    _beside(drawing, x(start) + 10, y, outside)


def _inside(
    drawing: Drawing, middle: float, y: float, wide: float, texts: tuple[str, str, float | None]
) -> bool:
    """Writes the name with mean and share under it, or the mean alone, if it fits into `wide`."""
    name, mean, share = texts
    both = mean if share is None else f"{mean} · {percent(share)}"
    room = (wide - 8) / (TEXT * CHARACTER)
    if max(len(name), len(both)) <= room:
        drawing.text(middle, y + 13, name, "inside", "middle")
        drawing.text(middle, y + 26, both, "inside", "middle")
    elif len(mean) <= room:
        drawing.text(middle, y + 19, mean, "inside", "middle")
    return len(mean) <= room


def _beside(drawing: Drawing, left: float, y: float, outside: list[tuple[float, str]]) -> None:
    """Writes the largest segments of `outside`, in the order of time, as many as fit."""
    room = (drawing.width - 120 - left) / (TEXT * CHARACTER)
    for most in range(_OUTSIDE, 0, -1):
        largest = sorted(outside, reverse=True)[:most]
        text = ", ".join(part[1] for part in outside if part in largest)
        if len(text) <= room:
            drawing.text(left, y + 19, text, "tick")
            return


def segment_class(key: str) -> str:
    """The CSS class with a segment's colour."""
    return f"seg-{key.replace('_', '-')}" if key in MEANINGS else "seg-other"


def key_of(segments: Sequence[str]) -> Markup:
    """The legend: every segment's colour, its name, and what happens in it."""
    items = []
    for key in segments:
        swatch = Drawing(14, 14)
        swatch.rect(0, 0, 14, 14, f"segment {segment_class(key)}")
        what = MEANINGS.get(key, "")
        items.append(
            Markup(
                '<li>{}<span><strong>{}</strong> <span class="soft">{}</span></span></li>'
            ).format(swatch.render(name_of(key)), escape(name_of(key)), what)
        )
    return Markup('<ul class="legend segments">') + Markup("").join(items) + Markup("</ul>")


@dataclass(frozen=True)
class Bridge:
    """The way from the baseline's mean latency, `start` ms, to a variant's.

    `name`, `baseline`: the two variants' names; `slots`: their places, the variant's first.
    """

    name: str
    baseline: str
    slots: tuple[int, int]
    start: float
    difference: WaterfallDifference


@dataclass(frozen=True)
class _Step:
    """A row of the bridge: the change by one segment, from `start` to `end` ms."""

    key: str
    label: str
    change: Estimate
    start: float
    end: float


def bridge(of: Bridge, width: float = 1000) -> Markup:
    """Each segment's change as a bar that starts where the one before it ended.

    The whisker is the interval of the change. The axis need not begin at zero: the two latencies
    are marks, not bars.
    """
    left, right, top, line = 260.0, width - 250.0, 30.0, 25.0
    steps = _steps(of)
    end = of.start + (of.difference.latency.value or 0.0)
    middles = [top + line * row + line / 2 for row in range(len(steps) + 2)]
    bottom = middles[-1] + line / 2 + 4
    drawing = Drawing(width, bottom + 46)
    x = Axis(*span(_reach(of.start, end, steps)), left, right)
    label = "Mean latency (a step to the left is faster)"
    x_axis(drawing, x, top - 6, bottom, AxisLabel(label, "ms", ticks=7))
    drawing.text(width - 140, top - 14, "change, ms", "tick", "end")
    drawing.text(width, top - 14, "95 % interval", "tick", "end")
    _latency(drawing, x, middles[0], (of.baseline, of.slots[1], of.start))
    for step, above, middle in zip(steps, middles, middles[1:], strict=False):
        drawing.line(x(step.start), above, x(step.start), middle, "joint")
        drawing.text(left - 12, middle + 4, step.label, "tick", "end")
        _step(drawing, x, middle, step)
        _change(drawing, middle + 4, step.change, "")
    drawing.line(x(end), middles[-2], x(end), middles[-1], "joint")
    _latency(drawing, x, middles[-1], (of.name, of.slots[0], end))
    _change(drawing, middles[-1] + 4, of.difference.latency, " strong")
    parts = ", ".join(f"{step.label} {_signed(step.change.value)}" for step in steps)
    spoken = f"{of.baseline} {quantity(of.start, 'ms')}; {parts}; {of.name} {quantity(end, 'ms')}"
    return drawing.render(f"Why the latency of {of.name} differs from {of.baseline}'s", spoken)


def _steps(of: Bridge) -> list[_Step]:
    """A step a segment, and the residual where it is more than rounding."""
    changes = [(key, name_of(key), change) for key, change in of.difference.segments.items()]
    residual = of.difference.residual
    if abs(residual) > max(0.05, 1e-3 * abs(of.difference.latency.value or 0.0)):
        changes.append(("residual", "residual", Estimate(value=residual)))
    steps, start = [], of.start
    for key, label, change in changes:
        end = start + (change.value or 0.0)
        steps.append(_Step(key, label, change, start, end))
        start = end
    return steps


def _reach(start: float, end: float, steps: Sequence[_Step]) -> list[float]:
    """All that the axis must hold: both latencies, the steps and their whiskers."""
    whiskers = [
        step.start + bound
        for step in steps
        for bound in (step.change.low, step.change.high)
        if bound is not None
    ]
    return [start, end, *(step.end for step in steps), *whiskers]


def _latency(drawing: Drawing, x: Axis, middle: float, of: tuple[str, int, float]) -> None:
    """The mark of a variant's mean latency, with its name and value."""
    name, slot, latency = of
    text = quantity(latency, "ms")
    drawing.text(x.start - 12, middle + 4, shorten(name, 236), "name strong", "end", title=name)
    drawing.marker(x(latency), middle, slot, 6, f"{name}: mean latency {text}")
    fits = x(latency) + 14 + len(text) * TEXT * CHARACTER < x.end
    place = x(latency) + (12 if fits else -12)
    drawing.text(place, middle + 4, text, "value halo", "" if fits else "end")


def _step(drawing: Drawing, x: Axis, middle: float, step: _Step) -> None:
    change = step.change
    if change.value is None:
        drawing.text(x(step.start) + 6, middle + 4, change.reason or "not known", "tick halo")
        return
    low, high = sorted((x(step.start), x(step.end)))
    hover = f"{step.label}: {_signed(change.value)}"
    drawing.rect(low, middle - 7, max(1.0, high - low), 14, _step_class(step.key), hover)
    if change.low is not None and change.high is not None:
        ends = (x(step.start + change.low), x(step.start + change.high))
        drawing.whisker(*ends, middle, "whisker ink", cap=4)


def _step_class(key: str) -> str:
    return "bar rest" if key == "residual" else f"segment {segment_class(key)}"


def _change(drawing: Drawing, y: float, change: Estimate, weight: str) -> None:
    """The value and the interval of a change, in their two columns."""
    value, low, high = change.value, change.low, change.high
    text = ABSENT if value is None else signed(milliseconds(value), value)
    drawing.text(drawing.width - 140, y, text, f"value{weight}", "end")
    if low is not None and high is not None:
        text = f"{signed(milliseconds(low), low)} to {signed(milliseconds(high), high)}"
        drawing.text(drawing.width, y, text, "tick", "end")


def _signed(value: float | None) -> str:
    return ABSENT if value is None else signed(quantity(value, "ms"), value)
