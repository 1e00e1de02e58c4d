"""What happened when: every request over the run's time, and the loss over a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from foundation.format import plain, quantity
from results.report.figures.frame import span, x_axis, y_axis
from results.report.figures.svg import Axis, Drawing, shorten, variant_class

_LANE_POINTS = 1500


@dataclass(frozen=True)
class Block:
    """One block of one stage: its first and last moment, in seconds since the run's first block began."""

    stage: str
    number: int
    start: float
    end: float


@dataclass(frozen=True)
class Lane:
    """One variant: when each answered request was due (s), how long it took (ms), when failed ones were due, and its blocks."""

    name: str
    slot: int
    due: NDArray[np.float64]
    latency: NDArray[np.float64]
    failed: NDArray[np.float64]
    blocks: tuple[Block, ...]


def timeline(lanes: Sequence[Lane], width: float = 1000) -> tuple[Markup, int]:
    """A lane a variant, each with its own height scale, blocks shaded, failures as crosses at the top.

    Second, of how many answered requests one is drawn (1: all of them).
    """
    left, right, top, step = 150.0, width - 84.0, 26.0, 62.0
    bottom = top + step * len(lanes)
    drawing = Drawing(width, bottom + 46)
    end = max((b.end for lane in lanes for b in lane.blocks), default=1.0)
    x = Axis(0.0, end / 60, left, right)
    x_axis(drawing, x, top, bottom, "", "Minutes since the first request was due", count=8)
    thinning = max([1, *(-(-lane.due.size // _LANE_POINTS) for lane in lanes)])
    drawing.text(width, top - 10, "top of lane", "tick", "end")
    for index, lane in enumerate(lanes):
        head = top + step * index + 14
        foot = top + step * (index + 1) - 4
        _lane(drawing, x, lane, head, foot, left, width, thinning)
    spoken = "; ".join(
        f"{lane.name}: {len(lane.blocks)} blocks, {lane.due.size} answered, {lane.failed.size} failed"
        for lane in lanes
    )
    return drawing.render(
        "Requests over the time of the run, by variant and block", spoken
    ), thinning


def _lane(
    drawing: Drawing,
    x: Axis,
    lane: Lane,
    head: float,
    foot: float,
    left: float,
    width: float,
    thinning: int,
) -> None:
    css = variant_class(lane.slot)
    drawing.text(
        left - 10,
        (head + foot) / 2 + 4,
        shorten(lane.name, left - 14),
        "name",
        "end",
        title=lane.name,
    )
    for block in lane.blocks:
        wide = x(block.end / 60) - x(block.start / 60)
        drawing.rect(
            x(block.start / 60),
            head,
            wide,
            foot - head,
            f"block {css}",
            f"{lane.name}, {block.stage}, block {block.number}",
        )
        if wide > 6 + 5 * len(str(block.number)):
            drawing.text(
                x(block.start / 60) + wide / 2, head - 3, str(block.number), "tiny", "middle"
            )
    highest = float(np.percentile(lane.latency, 99)) if lane.latency.size else 1.0
    drawing.text(width, (head + foot) / 2 + 4, quantity(highest, "ms"), "tick", "end")
    y = Axis(0.0, highest or 1.0, foot - 2, head + 3)
    order = np.argsort(lane.due, kind="stable")[::thinning]
    drawing.specks(
        [(x(float(lane.due[i]) / 60), y.clamp(float(lane.latency[i]))) for i in order],
        f"specks {css}",
    )
    failed = np.sort(lane.failed)[: 2 * _LANE_POINTS]
    if failed.size:
        drawing.crosses([(x(float(t) / 60), head + 6) for t in failed], "failure")


@dataclass(frozen=True)
class Training:
    """One training's loss by optimizer step, and the held-out loss at the steps where it was taken."""

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
    x_axis(drawing, x, top, bottom, "", "Optimizer step", count=8)
    y_axis(drawing, y, left, right, "", "Loss (cross-entropy per completion token)")
    ends: list[tuple[str, float]] = []
    if training.losses:
        trace = [(x(s), y(v)) for s, v in zip(training.steps, training.losses, strict=True)]
        drawing.path(trace, "curve v1", f"training loss, last {plain(training.losses[-1], 3)}")
        ends.append((f"training {plain(training.losses[-1], 3)}", trace[-1][1]))
    if training.heldout_losses:
        held = [
            (x(s), y(v))
            for s, v in zip(training.heldout_steps, training.heldout_losses, strict=True)
        ]
        drawing.path(held, "curve v2", dash="7 3")
        for (mark_x, mark_y), value in zip(held, training.heldout_losses, strict=True):
            drawing.rect(
                mark_x - 4.5, mark_y - 4.5, 9, 9, "mark v2", f"held-out loss {plain(value, 3)}"
            )
        ends.append((f"held-out {plain(training.heldout_losses[-1], 3)}", held[-1][1]))
    for offset, (text, at) in enumerate(sorted(ends, key=lambda e: e[1])):
        drawing.text(
            right + 12,
            at + 4 + (14 * offset if abs(ends[0][1] - ends[-1][1]) < 14 else 0),
            text,
            "name",
        )
    return drawing.render(f"Loss over the training of {training.name}")
