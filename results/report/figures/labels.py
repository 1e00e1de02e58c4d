"""Labels beside markers and at the ends of curves, where they cover no other text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from results.report.figures.svg import (
    CHARACTER,
    Drawing,
    shorten,
    spread_labels,
    variant_class,
)

Box = tuple[float, float, float, float]  # left, top, right, bottom
_LINE = 15.0


@dataclass(frozen=True)
class Labelled:
    """A marker's place and radius on the screen, and its label: a name and a text under it."""

    x: float
    y: float
    radius: float
    name: str
    text: str = ""

    @property
    def box(self) -> Box:
        """The square around the marker."""
        r = self.radius
        return (self.x - r, self.y - r, self.x + r, self.y + r)


@dataclass(frozen=True)
class CurveEnd:
    """The name of a variant at place `slot`, and where its curve ends on the screen."""

    name: str
    slot: int
    x: float
    y: float


def name_curves(drawing: Drawing, right: float, ends: Sequence[CurveEnd]) -> None:
    """Writes the names to the right of a plot that ends at `right`, each with a line to its end."""
    heights = spread_labels([end.y for end in ends], 18.0)
    for end, label_y in zip(ends, heights, strict=True):
        leader = [(end.x, end.y), (right + 8, label_y), (right + 20, label_y)]
        drawing.path(leader, f"leader {variant_class(end.slot)}")
        name = shorten(end.name, drawing.width - right - 26)
        drawing.text(right + 24, label_y + 4, name, "name", title=end.name)


def write_labels(
    drawing: Drawing, marks: Sequence[Labelled], kept_free: Sequence[Box], plot: Box
) -> None:
    """Writes each label at the first place inside `plot` that covers nothing.

    It covers no marker, nothing of `kept_free` and no label before it. Where every place covers
    something, the label takes the first.
    """
    taken: list[Box] = [*(mark.box for mark in marks), *kept_free]
    for mark in marks:
        name = shorten(mark.name, 150)
        wide = max(len(name), len(mark.text)) * 12 * CHARACTER + 4
        boxes = _places(mark, wide, _LINE * (2 if mark.text else 1))
        free = (
            box
            for box in boxes
            if _inside(box, plot) and not any(_overlap(box, other) for other in taken)
        )
        box = next(free, boxes[0])
        taken.append(box)
        drawing.text(box[0], box[1] + 11, name, "name halo", title=mark.name)
        if mark.text:
            drawing.text(box[0], box[1] + 11 + _LINE, mark.text, "tick halo")


def _places(mark: Labelled, wide: float, tall: float) -> list[Box]:
    """The places of a label around a marker, the nearest first."""
    boxes: list[Box] = []
    for far in (0.0, 14.0, 30.0, 48.0, 70.0):
        for dx, dy in ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1)):
            shift = wide if dx < 0 else wide / 2 if dx == 0 else 0
            left = mark.x + dx * (mark.radius + 8 + far) - shift
            top = mark.y + dy * (mark.radius + 6 + far + tall / 2) - tall / 2
            boxes.append((left, top, left + wide, top + tall))
    return boxes


def _inside(box: Box, plot: Box) -> bool:
    return box[0] >= plot[0] and box[1] >= plot[1] and box[2] <= plot[2] and box[3] <= plot[3]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
