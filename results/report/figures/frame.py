"""What every figure has: grid lines, axis labels, the line of a limit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

import numpy as np

from foundation.arrays import Flags, Floats, Ints
from foundation.format import Scale, plain, scale
from results.report.figures.svg import CHARACTER, Axis, Drawing, number

TEXT = 12.0
_HATCH = 8.0


@dataclass(frozen=True)
class AxisLabel:
    """What an axis shows: its quantity, the unit of its data, and about how many ticks."""

    text: str
    unit: str = ""
    ticks: int = 5

    def written(self, chosen: Scale, log: bool) -> str:
        """The quantity with the unit of the ticks."""
        unit = f", {chosen.unit}" if chosen.unit else ""
        return f"{self.text}{unit}{' (log scale)' if log else ''}"


def tick_text(ticks: list[float], unit: str) -> tuple[Scale, list[str]]:
    """The scale of an axis and its tick labels, with no more decimals than tell them apart."""
    chosen = scale([max(map(abs, ticks), default=0.0)], unit)
    scaled = [tick * chosen.factor for tick in ticks]
    decimals = next(
        (
            d
            for d in range(5)
            if all(abs(round(x, d) - x) < 1e-9 * max(1.0, abs(x)) for x in scaled)
        ),
        5,
    )
    return chosen, [plain(x, decimals) for x in scaled]


def span(
    values: Iterable[float], low: float | None = None, pad: float = 0.06
) -> tuple[float, float]:
    """The range of the finite `values`, wider by the share `pad` of it on either side.

    `low` fixes the lower end. Without finite values the range is 0 to 1.
    """
    finite = [v for v in values if np.isfinite(v)]
    least, most = min(finite, default=0.0), max(finite, default=1.0)
    room = pad * ((most - least) or abs(most) or 1.0)
    return (least - room if low is None else low), most + room


def x_axis(drawing: Drawing, x: Axis, top: float, bottom: float, label: AxisLabel) -> None:
    """Vertical grid lines, their values below as far as there is room, and the axis label."""
    ticks = x.ticks(label.ticks)
    chosen, texts = tick_text(ticks, label.unit)
    free = float("-inf")
    for tick, text in zip(ticks, texts, strict=True):
        drawing.line(x(tick), top, x(tick), bottom, "grid")
        half = len(text) * TEXT * CHARACTER / 2
        if x(tick) - half >= free:
            drawing.text(x(tick), bottom + 17, text, "tick", "middle")
            free = x(tick) + half + TEXT / 2
    drawing.line(x.start, bottom, x.end, bottom, "axis")
    middle = (x.start + x.end) / 2
    drawing.text(middle, bottom + 37, label.written(chosen, x.log), "label", "middle")


def y_axis(drawing: Drawing, y: Axis, left: float, right: float, label: AxisLabel) -> None:
    """Horizontal grid lines, their values to the left, and the axis label above them."""
    ticks = y.ticks(label.ticks)
    chosen, texts = tick_text(ticks, label.unit)
    for tick, text in zip(ticks, texts, strict=True):
        drawing.line(left, y(tick), right, y(tick), "grid")
        drawing.text(left - 8, y(tick) + 4, text, "tick", "end")
    drawing.text(left, y.end - 14, label.written(chosen, y.log), "label")


def limit_line(
    drawing: Drawing,
    x: float,
    ends: tuple[float, float],
    text: str,
    right_edge: float,
    low: bool = False,
) -> None:
    """An upright dashed line between two heights, `ends`, with its text on the side with room.

    The text stands at the top of the line, or at its foot where `low`.
    """
    top, bottom = ends
    drawing.line(x, top, x, bottom, "limit", title=text)
    fits = x + 6 + len(text) * TEXT * CHARACTER < right_edge
    drawing.text(
        x + (6 if fits else -6),
        bottom - 8 if low else top + 10,
        text,
        "limit-text halo",
        "" if fits else "end",
    )


def known_pieces(known: Flags) -> list[Ints]:
    """The indices of each run of True in `known` (k,)."""
    runs = np.split(np.arange(known.size), np.flatnonzero(np.diff(known)) + 1)
    return [run for run in runs if run.size and known[run[0]]]


def band(
    drawing: Drawing, x: Axis, y: Axis, at: Floats, ends: tuple[Floats, Floats], css: str
) -> None:
    """The area between two curves (k,) over `at`, in pieces where an end is not finite."""
    low, high = ends
    for piece in known_pieces(np.isfinite(low) & np.isfinite(high)):
        if piece.size > 1:
            there = [(x(at[i]), y(low[i])) for i in piece]
            back = [(x(at[i]), y(high[i])) for i in reversed(piece)]
            drawing.path([*there, *back], css, closed=True)


def hatched(drawing: Drawing, box: tuple[float, float, float, float], title: str) -> None:
    """Slanted lines over a box (left, top, right, bottom) of which nothing is known."""
    left, top, right, bottom = box
    drawing.rect(left, top, right - left, bottom - top, "unknown", title)
    lines = []
    for index in range(ceil((left + top) / _HATCH), ceil((right + bottom) / _HATCH)):
        level = index * _HATCH  # x + y along the line
        x1, x2 = max(left, level - bottom), min(right, level - top)
        lines.append(f"M{number(x1)} {number(level - x1)}L{number(x2)} {number(level - x2)}")
    if lines:
        drawing.path_data("".join(lines), "hatch")
