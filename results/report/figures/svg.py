"""The little that a static figure needs: an axis, a drawing, and a style a variant.

Colours come from the page's style sheet through classes, so one drawing serves the light and the dark scheme and print.
Every element of a variant carries the class `vN`; its hover text is an SVG title, which needs no script.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil, floor, log10

from markupsafe import Markup, escape

STYLES = 8  # colours in report.css; markers and dashes have other periods, so that 8 x 7 variants look different
_DASHES = ("", "7 3", "2 2.5", "9 3 2 3", "12 4", "4 2 1 2 1 2", "5 5")
_MARKERS = ("circle", "square", "triangle", "diamond", "down", "plus", "ring")
CHARACTER = 0.6  # mean advance of the page's font, in font sizes


def number(value: float) -> str:
    """A coordinate to a tenth of a unit: half the bytes, and the same text on every machine."""
    text = f"{value:.1f}"
    return "0" if text == "-0.0" else text.removesuffix(".0")


def variant_class(slot: int) -> str:
    return f"v{slot % STYLES}"


def dash(slot: int) -> str:
    return _DASHES[slot % len(_DASHES)]


def shorten(text: str, width: float, size: float = 13) -> str:
    """`text` cut to fit `width` units of a font of `size`: in its middle, since long names differ at their ends."""
    room = max(3, int(width / (size * CHARACTER)))
    if len(text) <= room:
        return text
    tail = (room - 1) // 2
    return f"{text[: room - 1 - tail]}…{text[len(text) - tail :]}"


@dataclass(frozen=True)
class Axis:
    """Data from `low` to `high` on screen units from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            value, low, high = (log10(max(x, 1e-12)) for x in (value, low, high))
        share = 0.5 if high == low else (value - low) / (high - low)
        return self.start + (self.end - self.start) * share

    def clamp(self, value: float) -> float:
        return self(min(max(value, self.low), self.high))

    def ticks(self, count: int = 5) -> list[float]:
        """Round values within the axis: about `count` of them, or 1-2-5 per decade on a log axis."""
        if self.log:
            decades = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
            steps = (1, 2, 5) if self.high / self.low < 1000 else (1,)
            return [
                x
                for d in decades
                for x in (m * 10.0**d for m in steps)
                if self.low <= x * 1.0001 and x <= self.high * 1.0001
            ]
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        raw = span / count
        size = 10.0 ** floor(log10(raw))
        step = next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= raw * 0.999)
        first = ceil(self.low / step - 1e-9)
        return [round(k * step, 12) for k in range(first, floor(self.high / step + 1e-9) + 1)]


@dataclass
class Drawing:
    """SVG elements in the order they were drawn."""

    width: float
    height: float
    _parts: list[str] = field(default_factory=list)

    def _add(self, tag: str, css: str, title: str = "", **attributes: float | str) -> None:
        shown = "".join(
            f' {name.replace("_", "-")}="{escape(value) if isinstance(value, str) else number(value)}"'
            for name, value in attributes.items()
            if value != ""
        )
        body = f"<title>{escape(title)}</title></{tag}>" if title else ""
        self._parts.append(f'<{tag} class="{css}"{shown}{">" + body if body else "/>"}')

    def line(
        self, x1: float, y1: float, x2: float, y2: float, css: str, title: str = "", dash: str = ""
    ) -> None:
        self._add("line", css, title, x1=x1, y1=y1, x2=x2, y2=y2, stroke_dasharray=dash)

    def rect(
        self, x: float, y: float, width: float, height: float, css: str, title: str = ""
    ) -> None:
        self._add("rect", css, title, x=x, y=y, width=max(0.0, width), height=max(0.0, height))

    def path(
        self,
        points: list[tuple[float, float]],
        css: str,
        title: str = "",
        dash: str = "",
        closed: bool = False,
    ) -> None:
        d = "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points) + ("Z" if closed else "")
        self._add("path", css, title, d=d, stroke_dasharray=dash)

    def specks(self, points: list[tuple[float, float]], css: str) -> None:
        """Many equal dots as one path: a line of length zero with round caps is a dot, at a tenth of a circle's bytes."""
        self._add("path", css, d="".join(f"M{number(x)} {number(y)}h0" for x, y in points))

    def crosses(self, points: list[tuple[float, float]], css: str, arm: float = 3.5) -> None:
        strokes = (
            f"M{number(x - arm)} {number(y - arm)}L{number(x + arm)} {number(y + arm)}"
            f"M{number(x - arm)} {number(y + arm)}L{number(x + arm)} {number(y - arm)}"
            for x, y in points
        )
        self._add("path", css, d="".join(strokes))

    def marker(
        self, x: float, y: float, slot: int, radius: float = 5, title: str = "", css: str = "mark"
    ) -> None:
        """The variant's own shape, of about the area of a circle of `radius`."""
        css, r = f"{css} {variant_class(slot)}", radius
        shape = _MARKERS[slot % len(_MARKERS)]
        if shape in ("circle", "ring"):
            return self._add(
                "circle", css + (" hollow" if shape == "ring" else ""), title, cx=x, cy=y, r=r
            )
        if shape == "square":
            return self.rect(x - 0.88 * r, y - 0.88 * r, 1.76 * r, 1.76 * r, css, title)
        corners = {
            "triangle": [(0, -1.3), (1.17, 0.75), (-1.17, 0.75)],
            "down": [(0, 1.3), (1.17, -0.75), (-1.17, -0.75)],
            "diamond": [(0, -1.28), (1.28, 0), (0, 1.28), (-1.28, 0)],
            "plus": [
                *((-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4)),
                *((0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4)),
            ],
        }[shape]
        return self.path([(x + r * dx, y + r * dy) for dx, dy in corners], css, title, closed=True)

    def whisker(
        self, x1: float, x2: float, y: float, css: str, title: str = "", cap: float = 4
    ) -> None:
        """A horizontal interval with end caps."""
        d = (
            "".join(f"M{number(x)} {number(y - cap)}v{number(2 * cap)}" for x in (x1, x2))
            + f"M{number(x1)} {number(y)}H{number(x2)}"
        )
        self._add("path", css, title, d=d)

    def upright_whisker(self, x: float, y1: float, y2: float, css: str, cap: float = 4) -> None:
        d = (
            "".join(f"M{number(x - cap)} {number(y)}h{number(2 * cap)}" for y in (y1, y2))
            + f"M{number(x)} {number(y1)}V{number(y2)}"
        )
        self._add("path", css, d=d)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        css: str = "",
        anchor: str = "",
        title: str = "",
        turn: float | None = None,
    ) -> None:
        turned = (
            "" if turn is None else f' transform="rotate({number(turn)} {number(x)} {number(y)})"'
        )
        anchored = f' text-anchor="{anchor}"' if anchor else ""
        styled = f' class="{css}"' if css else ""
        hover = f"<title>{escape(title)}</title>" if title else ""
        self._parts.append(
            f'<text{styled} x="{number(x)}" y="{number(y)}"{anchored}{turned}>{hover}{escape(text)}</text>'
        )

    def render(self, label: str, description: str = "") -> Markup:
        """The finished figure. `label` and `description` are what a screen reader says of it."""
        return Markup(
            f'<svg viewBox="0 0 {number(self.width)} {number(self.height)}" role="img" aria-label="{escape(label)}"'
            f"{f' aria-description={chr(34)}{escape(description)}{chr(34)}' if description else ''}>{''.join(self._parts)}</svg>"
        )


def spread_labels(wanted: list[float], gap: float) -> list[float]:
    """Label positions at least `gap` apart, each as near its wanted one as a single pass down allows."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = list(wanted)
    for before, after in pairwise(order):
        placed[after] = max(placed[after], placed[before] + gap)
    return placed
