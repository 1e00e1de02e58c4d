"""Figures over time: every request of a run, and the loss over a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from foundation.arrays import Floats
from foundation.format import plain, quantity
from results.report.figures.frame import AxisLabel, span, x_axis, y_axis
from results.report.figures.svg import Axis, Drawing, shorten, variant_class

_LANE_POINTS = 1500
_LEFT = 150.0


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


def timeline(lanes: Sequence[Lane], width: float = 1000) -> tuple[Markup, int]:
    """One lane per variant on its own height scale: blocks shaded, failures as crosses at the top.

    The second value is the thinning: one of so many answered requests is drawn (1: all).
    """
    right, top, step = width - 84.0, 26.0, 62.0
    bottom = top + step * len(lanes)
    drawing = Drawing(width, bottom + 46)
    end = max((b.end for lane in lanes for b in lane.blocks), default=1.0)
    x = Axis(0.0, end / 60, _LEFT, right)
    label = AxisLabel("Minutes since the first request was due", ticks=8)
    x_axis(drawing, x, top, bottom, label)
    thinning = max([1, *(-(-lane.due.size // _LANE_POINTS) for lane in lanes)])
    drawing.text(width, top - 10, "top of lane", "tick", "end")
    for index, lane in enumerate(lanes):
        head = top + step * index + 14
        foot = top + step * (index + 1) - 4
        _blocks(drawing, x, lane, head, foot)
        _requests(drawing, x, lane, (head, foot), thinning)
    spoken = "; ".join(
        f"{lane.name}: {len(lane.blocks)} blocks, "
        f"{lane.due.size} answered, {lane.failed.size} failed"
        for lane in lanes
    )
    title = "Requests over the time of the run, by variant and block"
    return drawing.render(title, spoken), thinning


def _blocks(drawing: Drawing, x: Axis, lane: Lane, head: float, foot: float) -> None:
    """The lane's name and its shaded blocks, numbered where there is room."""
    name, middle = shorten(lane.name, _LEFT - 14), (head + foot) / 2 + 4
    drawing.text(_LEFT - 10, middle, name, "name", "end", title=lane.name)
    for block in lane.blocks:
        start = x(block.start / 60)
        wide = x(block.end / 60) - start
        hover = f"{lane.name}, {block.stage}, block {block.number}"
        css = f"block {variant_class(lane.slot)}"
        drawing.rect(start, head, wide, foot - head, css, hover)
        if wide > 6 + 5 * len(str(block.number)):
            drawing.text(start + wide / 2, head - 3, str(block.number), "tiny", "middle")


def _requests(
    drawing: Drawing, x: Axis, lane: Lane, ends: tuple[float, float], thinning: int
) -> None:
    """The lane's requests as dots up to their p99, its failures as crosses at the top."""
    head, foot = ends
    highest = float(np.percentile(lane.latency, 99)) if lane.latency.size else 1.0
    drawing.text(drawing.width, (head + foot) / 2 + 4, quantity(highest, "ms"), "tick", "end")
    y = Axis(0.0, highest or 1.0, foot - 2, head + 3)
    order = np.argsort(lane.due, kind="stable")[::thinning]
    dots = [(x(float(lane.due[i]) / 60), y.clamp(float(lane.latency[i]))) for i in order]
    drawing.specks(dots, f"specks {variant_class(lane.slot)}")
    failed = np.sort(lane.failed)[: 2 * _LANE_POINTS]
    if failed.size:
        drawing.crosses([(x(float(t) / 60), head + 6) for t in failed], "failure")


@dataclass(frozen=True)
class Training:
    """One training's loss by optimizer step, and the held-out loss where it was measured."""

    name: str
    steps: list[float]
    losses: list[float]
    heldout_steps: list[float]
    heldout_losses: list[float]


def loss_curve(training: Training, width: float = 1000) -> Markup:
    """Training loss as a line, held-out loss as squares."""
    left, right, top, bottom = 56.0, width - 150.0, 34.0, 264.0
    drawing = Drawing(width, bottom + 46)
    x = Axis(*span([*training.steps, *training.heldout_steps], low=0.0, pad=0.02), left, right)
    y = Axis(*span([*training.losses, *training.heldout_losses], low=0.0), bottom, top)
    x_axis(drawing, x, top, bottom, AxisLabel("Optimizer step", ticks=8))
    y_axis(drawing, y, left, right, AxisLabel("Loss (cross-entropy per completion token)"))
    ends: list[tuple[str, float]] = []
    if training.losses:
        trace = [(x(s), y(v)) for s, v in zip(training.steps, training.losses, strict=True)]
        last = plain(training.losses[-1], 3)
        drawing.path(trace, "curve v1", f"training loss, last {last}")
        ends.append((f"training {last}", trace[-1][1]))
    if training.heldout_losses:
        pairs = zip(training.heldout_steps, training.heldout_losses, strict=True)
        trace = [(x(s), y(v)) for s, v in pairs]
        drawing.path(trace, "curve v2", dash="7 3")
        for (mark_x, mark_y), loss in zip(trace, training.heldout_losses, strict=True):
            hover = f"held-out loss {plain(loss, 3)}"
            drawing.rect(mark_x - 4.5, mark_y - 4.5, 9, 9, "mark v2", hover)
        ends.append((f"held-out {plain(training.heldout_losses[-1], 3)}", trace[-1][1]))
    close = bool(ends) and abs(ends[0][1] - ends[-1][1]) < 14
    for index, (text, at) in enumerate(sorted(ends, key=lambda end: end[1])):
        drawing.text(right + 12, at + 4 + (14 * index if close else 0), text, "name")
    return drawing.render(f"Loss over the training of {training.name}")
