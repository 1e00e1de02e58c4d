"""The loss over a training."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from foundation.format import plain
from results.report.figures.frame import AxisLabel, span, x_axis, y_axis
from results.report.figures.svg import Axis, Drawing


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
