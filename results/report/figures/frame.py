"""What every figure has: margins, grid lines, axis labels, the line of a limit."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from foundation.format import Scale, plain, scale
from results.report.figures.svg import CHARACTER, Axis, Drawing

TEXT = 12.0


def tick_text(ticks: list[float], unit: str) -> tuple[Scale, list[str]]:
    """The scale of an axis and its tick labels, with no more decimals than tell them apart."""
    chosen = scale([max(map(abs, ticks), default=0.0)], unit)
    shown = [tick * chosen.factor for tick in ticks]
    decimals = next(
        (d for d in range(5) if all(abs(round(x, d) - x) < 1e-9 * max(1.0, abs(x)) for x in shown)),
        5,
    )
    return chosen, [plain(x, decimals) for x in shown]


def span(
    values: Iterable[float], low: float | None = None, pad: float = 0.06
) -> tuple[float, float]:
    """The range of `values` with some air, starting at `low` where it is given."""
    finite = [v for v in values if np.isfinite(v)]
    least, most = min(finite, default=0.0), max(finite, default=1.0)
    room = pad * ((most - least) or abs(most) or 1.0)
    return (least - room if low is None else low), most + room


def x_axis(
    drawing: Drawing, x: Axis, top: float, bottom: float, unit: str, label: str, count: int = 5
) -> None:
    """Vertical grid lines with their values below as far as there is room, and the axis label with its unit."""
    ticks = x.ticks(count)
    chosen, texts = tick_text(ticks, unit)
    free = float("-inf")
    for tick, text in zip(ticks, texts, strict=True):
        drawing.line(x(tick), top, x(tick), bottom, "grid")
        half = len(text) * TEXT * CHARACTER / 2
        if x(tick) - half >= free:
            drawing.text(x(tick), bottom + 17, text, "tick", "middle")
            free = x(tick) + half + TEXT / 2
    drawing.line(x.start, bottom, x.end, bottom, "axis")
    shown = f"{label}, {chosen.unit}" if chosen.unit else label
    drawing.text(
        (x.start + x.end) / 2,
        bottom + 37,
        shown + (" (log scale)" if x.log else ""),
        "label",
        "middle",
    )


def y_axis(
    drawing: Drawing, y: Axis, left: float, right: float, unit: str, label: str, count: int = 5
) -> None:
    """Horizontal grid lines with their values to the left, and the axis label with its unit above them."""
    ticks = y.ticks(count)
    chosen, texts = tick_text(ticks, unit)
    for tick, text in zip(ticks, texts, strict=True):
        drawing.line(left, y(tick), right, y(tick), "grid")
        drawing.text(left - 8, y(tick) + 4, text, "tick", "end")
    shown = f"{label}, {chosen.unit}" if chosen.unit else label
    drawing.text(left, y.end - 14, shown + (" (log scale)" if y.log else ""), "label")


def limit_line(
    drawing: Drawing,
    x: float,
    top: float,
    bottom: float,
    text: str,
    right_edge: float,
    low: bool = False,
) -> None:
    """An upright dashed line with its text beside it, at the top or (`low`) at the foot, on whichever side has room."""
    drawing.line(x, top, x, bottom, "limit", title=text)
    fits = x + 6 + len(text) * TEXT * CHARACTER < right_edge
    drawing.text(
        x + (6 if fits else -6),
        bottom - 8 if low else top + 10,
        text,
        "limit-text halo",
        "" if fits else "end",
    )
