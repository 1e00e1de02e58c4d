"""What a static figure needs: an axis, a drawing, and a style for each variant.

Colours come from the page's style sheet through classes, so one drawing serves the light and the
dark scheme and print. Every element of a variant carries the class `vN`. Its hover text is an SVG
title, which needs no script.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil, floor, log10

from markupsafe import Markup, escape

# Colours in report.css. Markers and dashes repeat after 7, so 8 x 7 variants look different.
STYLES = 8
_DASHES = ("", "7 3", "2 2.5", "9 3 2 3", "12 4", "4 2 1 2 1 2", "5 5")
_MARKERS = ("circle", "square", "triangle", "diamond", "down", "plus", "ring")
CHARACTER = 0.6  # mean advance of the page's font, in font sizes


def number(value: float) -> str:
    """A coordinate to a tenth of a unit, which is the same text on every machine."""
    text = f"{value:.1f}"
    return "0" if text == "-0.0" else text.removesuffix(".0")


def variant_class(slot: int) -> str:
    """The CSS class with the colour of the variant at place `slot` of the experiment."""
    return f"v{slot % STYLES}"


def dash(slot: int) -> str:
    """The `stroke-dasharray` of the variant at place `slot`; empty: a solid line."""
    return _DASHES[slot % len(_DASHES)]


def shorten(text: str, width: float, size: float = 13) -> str:
    """Cuts `text` to fit `width` units of a font of `size`.

    The cut is in the middle, since long names differ at their ends.
    """
    room = max(3, int(width / (size * CHARACTER)))
    if len(text) <= room:
        return text
    tail = (room - 1) // 2
    return f"{text[: room - 1 - tail]}…{text[len(text) - tail :]}"


@dataclass(frozen=True)
class Axis:
    """Maps data from `low` to `high` onto screen units from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The screen position of a value; outside `start` to `end` for a value off the axis."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = (log10(max(x, 1e-12)) for x in (value, low, high))
        share = 0.5 if high == low else (value - low) / (high - low)
        return self.start + (self.end - self.start) * share

    def clamp(self, value: float) -> float:
        """The screen position of a value, or of the axis's end where the value lies beyond it."""
        return self(min(max(value, self.low), self.high))

    def ticks(self, count: int = 5) -> list[float]:
        """Round values within the axis.

        A linear axis has about `count` of them, a log axis 1, 2 and 5 times each power of ten.
        """
        if self.log:
            return self._log_ticks()
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        raw = span / count
        size = 10.0 ** floor(log10(raw))
        step = next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= raw * 0.999)
        first = ceil(self.low / step - 1e-9)
        return [round(k * step, 12) for k in range(first, floor(self.high / step + 1e-9) + 1)]

    def _log_ticks(self) -> list[float]:
        decades = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
        steps = (1, 2, 5) if self.high / self.low < 1000 else (1,)
        values = [step * 10.0**decade for decade in decades for step in steps]
        return [x for x in values if self.low <= x * 1.0001 and x <= self.high * 1.0001]


def _written(attributes: Mapping[str, float | str]) -> str:
    """Attributes as text, empty ones left out; an underscore in a name is a dash."""
    texts = {
        name.replace("_", "-"): escape(value) if isinstance(value, str) else number(value)
        for name, value in attributes.items()
        if value != ""
    }
    return "".join(f' {name}="{text}"' for name, text in texts.items())


@dataclass
class Drawing:
    """Collects SVG elements and renders them in the order in which they were added.

    Coordinates are in units of the view box, y downwards. `css` is an element's class, `title` its
    hover text.
    """

    width: float
    height: float
    _parts: list[str] = field(default_factory=list)

    def _add(self, tag: str, css: str, title: str = "", **attributes: float | str) -> None:
        body = f"<title>{escape(title)}</title></{tag}>" if title else ""
        opening = f'<{tag} class="{css}"{_written(attributes)}'
        self._parts.append(f"{opening}>{body}" if body else f"{opening}/>")

    @contextmanager
    def element(self, tag: str, css: str, **attributes: float | str) -> Iterator[None]:
        """An element around those that are added in the `with` block."""
        self._parts.append(f'<{tag} class="{css}"{_written(attributes)}>')
        yield
        self._parts.append(f"</{tag}>")

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str, title: str = "") -> None:
        """A straight line."""
        self._add("line", css, title, x1=x1, y1=y1, x2=x2, y2=y2)

    def rect(
        self, x: float, y: float, width: float, height: float, css: str, title: str = ""
    ) -> None:
        """A rectangle from its upper left corner; a negative width or height counts as 0."""
        self._add("rect", css, title, x=x, y=y, width=max(0.0, width), height=max(0.0, height))

    def path(
        self,
        points: list[tuple[float, float]],
        css: str,
        title: str = "",
        dash: str = "",
        closed: bool = False,
    ) -> None:
        """Straight segments through `points`; `closed` joins the last to the first."""
        d = "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points) + ("Z" if closed else "")
        self._add("path", css, title, d=d, stroke_dasharray=dash)

    def path_data(self, data: str, css: str, **attributes: float | str) -> None:
        """A path whose commands the caller wrote: many equal marks in few bytes."""
        self._parts.append(f'<path class="{css}" d="{data}"{_written(attributes)}/>')

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
        """A vertical interval with end caps."""
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
        **attributes: float | str,
    ) -> None:
        """A line of text on the baseline y; `anchor` is "middle" or "end", empty for the start."""
        styled = f' class="{css}"' if css else ""
        anchored = f' text-anchor="{anchor}"' if anchor else ""
        place = f'x="{number(x)}" y="{number(y)}"{anchored}{_written(attributes)}'
        hover = f"<title>{escape(title)}</title>" if title else ""
        self._parts.append(f"<text{styled} {place}>{hover}{escape(text)}</text>")

    def render(self, label: str, description: str = "", **attributes: float | str) -> Markup:
        """The finished figure; a screen reader reads `label` and `description`."""
        box = f'viewBox="0 0 {number(self.width)} {number(self.height)}"'
        described = f' aria-description="{escape(description)}"' if description else ""
        spoken = f'role="img" aria-label="{escape(label)}"{described}'
        opening = f"<svg {box} {spoken}{_written(attributes)}>"
        return Markup(f"{opening}{''.join(self._parts)}</svg>")


def spread_labels(positions: list[float], gap: float) -> list[float]:
    """The positions of labels, moved down where needed so that they lie at least `gap` apart."""
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    placed = list(positions)
    for before, after in pairwise(order):
        placed[after] = max(placed[after], placed[before] + gap)
    return placed
