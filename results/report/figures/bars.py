"""Rows of bars: tokens per request, why latency changed, and probe scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from foundation.format import (
    between,
    difference,
    interval,
    points,
    quantity,
    scale,
    signed,
    significant,
)
from results.report.figures.frame import span, x_axis
from results.report.figures.svg import Axis, Drawing, shorten, variant_class
from results.summary import Decomposition, Difference, Estimate

_LEFT = 150.0


@dataclass(frozen=True)
class TokenRow:
    """Mean tokens per request of one variant, and the total's difference to the baseline (None for the baseline itself)."""

    name: str
    slot: int
    input: Estimate
    output: Estimate
    total: Estimate
    change: Difference | None


def tokens(rows: Sequence[TokenRow], width: float = 1000) -> Markup:
    """Input (pale) and output (full) tokens per request, stacked, with the total's interval."""
    top, step, right = 30.0, 40.0, width - 330.0
    bottom = top + step * len(rows)
    drawing = Drawing(width, bottom + 46)
    most = max(
        [(r.input.value or 0.0) + (r.output.value or 0.0) for r in rows]
        + [r.total.high or 0.0 for r in rows],
        default=1.0,
    )
    x = Axis(0.0, (most or 1.0) * 1.04, _LEFT, right)
    x_axis(drawing, x, top, bottom, "", "Tokens per request, mean", count=6)
    for column, text in (
        (right + 70, "input"),
        (right + 140, "output"),
        (right + 210, "total"),
        (width, "total, difference"),
    ):
        drawing.text(column, top - 10, text, "tick", "end")
    for index, row in enumerate(rows):
        y, css = top + step * index + 11, variant_class(row.slot)
        drawing.text(
            _LEFT - 10, y + 13, shorten(row.name, _LEFT - 14), "name", "end", title=row.name
        )
        given, written = row.input.value or 0.0, row.output.value or 0.0
        drawing.rect(
            x(0),
            y,
            x(given) - x(0),
            18,
            f"bar pale {css}",
            f"{row.name}: input {quantity(row.input.value, 'tokens')}",
        )
        drawing.rect(
            x(given),
            y,
            x(given + written) - x(given),
            18,
            f"bar {css}",
            f"{row.name}: output {quantity(row.output.value, 'tokens')}",
        )
        if row.total.low is not None and row.total.high is not None:
            around = interval(row.total.low, row.total.high, "tokens")
            drawing.whisker(
                x(row.total.low),
                x(row.total.high),
                y + 9,
                "whisker ink",
                f"{row.name}: total {around}",
            )
        for column, estimate in (
            (right + 70, row.input),
            (right + 140, row.output),
            (right + 210, row.total),
        ):
            drawing.text(
                column,
                y + 13,
                "—" if estimate.value is None else significant(estimate.value),
                "value",
                "end",
            )
        changed = "baseline" if row.change is None else _change(row.change.absolute, "tokens")
        drawing.text(width, y + 13, changed, "value", "end")
    spoken = "; ".join(
        f"{r.name}: input {quantity(r.input.value, 'tokens')}, output {quantity(r.output.value, 'tokens')}"
        for r in rows
    )
    return drawing.render("Tokens per request by variant", spoken)


def _change(estimate: Estimate, unit: str) -> str:
    return (
        "—" if estimate.value is None else difference(estimate.value, unit).removesuffix(f" {unit}")
    )


PARTS = (
    ("prefill_and_queueing", "queueing and prefill"),
    ("verbosity", "verbosity (more or fewer tokens)"),
    ("speed_per_token", "speed per token"),
)
_RESIDUAL = "residual"


def decomposition(rows: Sequence[tuple[str, int, Decomposition]], width: float = 1000) -> Markup:
    """For each variant the change of its mean latency against the baseline, and the parts that add up to it."""
    left, right, top = 260.0, width - 250.0, 30.0
    line, gap = 19.0, 23.0
    bottom = top + sum(gap + line * len(_lines(d)) for _, _, d in rows)
    drawing = Drawing(width, bottom + 46)
    every = [e for _, _, d in rows for _, e in _lines(d)]
    ends = [v for e in every for v in (e.value, e.low, e.high) if v is not None]
    x = Axis(*span([0.0, *ends]), left, right)
    unit = scale((e.value for e in every), "ms")
    x_axis(
        drawing,
        x,
        top - 6,
        bottom,
        "ms",
        "Change of mean latency against the baseline (left of zero: faster)",
        count=7,
    )
    drawing.line(x(0), top - 6, x(0), bottom, "zero")
    drawing.text(width - 140, top - 14, f"change, {unit.unit}", "tick", "end")
    drawing.text(width, top - 14, "95 % interval", "tick", "end")
    y = top
    for name, slot, parts in rows:
        drawing.text(4, y + 13, shorten(name, 140), "name strong", title=name)
        for index, (label, estimate) in enumerate(_lines(parts)):
            strong = " strong" if index == 0 else ""
            css = (
                "bar rest"
                if label == _RESIDUAL
                else f"bar {variant_class(slot)}{'' if strong else ' pale'}"
            )
            drawing.text(left - 12, y + 13, label, "tick" + strong, "end")
            if estimate.value is None:
                drawing.text(x(0) + 6, y + 13, estimate.reason or "not known", "tick")
            else:
                _bar(drawing, x, y + 9, estimate, css, 14 if strong else 11)
                drawing.text(
                    width - 140,
                    y + 13,
                    signed(unit(estimate.value), estimate.value),
                    "value" + strong,
                    "end",
                )
            if estimate.low is not None and estimate.high is not None:
                between = f"{signed(unit(estimate.low), estimate.low)} to {signed(unit(estimate.high), estimate.high)}"
                drawing.text(width, y + 13, between, "tick", "end")
            y += line
        y += gap
    spoken = "; ".join(
        f"{name}: " + ", ".join(f"{label} {quantity(e.value, 'ms')}" for label, e in _lines(d))
        for name, _, d in rows
    )
    return drawing.render("Why mean latency changed against the baseline", spoken)


def _lines(parts: Decomposition) -> list[tuple[str, Estimate]]:
    """The total, its parts, and the residual where it is more than rounding: a thousandth of the change."""
    lines = [("total", parts.latency), *((label, getattr(parts, key)) for key, label in PARTS)]
    if abs(parts.residual) > max(0.05, 1e-3 * abs(parts.latency.value or 0.0)):
        lines.append((_RESIDUAL, Estimate(value=parts.residual)))
    return lines


def _bar(
    drawing: Drawing, x: Axis, middle: float, estimate: Estimate, css: str, tall: float
) -> None:
    start, end = sorted((x(0), x(estimate.value or 0.0)))
    drawing.rect(start, middle - tall / 2, max(1.0, end - start), tall, css)
    if estimate.low is not None and estimate.high is not None:
        drawing.whisker(x(estimate.low), x(estimate.high), middle, "whisker ink", cap=3)


@dataclass(frozen=True)
class ScoreRow:
    """A variant's score on a probe, 0 to 1, and its difference to the baseline (None for the baseline itself)."""

    name: str
    slot: int
    score: Estimate
    change: Difference | None


def scores(
    probe: str, rows: Sequence[ScoreRow], baseline: float | None, width: float = 1000
) -> Markup:
    """A dot and its interval for every variant, and an upright line where the baseline stands."""
    top, step, right = 24.0, 27.0, width - 300.0
    bottom = top + step * len(rows)
    drawing = Drawing(width, bottom + 46)
    seen = [v for r in rows for v in (r.score.value, r.score.low, r.score.high) if v is not None]
    low, high = span([*seen, *([baseline] if baseline is not None else [])], pad=0.15)
    x = Axis(max(0.0, low), min(1.0, high), _LEFT, right)
    x_axis(drawing, x, top - 8, bottom, "share", f"Score on {probe}", count=7)
    drawing.text(width, top - 12, "score · difference to the baseline", "tick", "end")
    if baseline is not None:
        drawing.line(x(baseline), top - 8, x(baseline), bottom, "reference")
    for index, row in enumerate(rows):
        y = top + step * index + step / 2
        drawing.text(
            _LEFT - 10, y + 4, shorten(row.name, _LEFT - 14), "name", "end", title=row.name
        )
        if row.score.value is None:
            drawing.text(_LEFT + 8, y + 4, row.score.reason or "not measured", "tick")
            continue
        around = interval(row.score.low, row.score.high, "share")
        said = f"{row.name}: {quantity(row.score.value, 'share')} ({around}), n = {row.score.n}"
        if row.score.low is not None and row.score.high is not None:
            drawing.whisker(
                x(max(x.low, row.score.low)),
                x(min(x.high, row.score.high)),
                y,
                f"whisker {variant_class(row.slot)}",
                said,
            )
        drawing.marker(x(row.score.value), y, row.slot, 5, said)
        drawing.text(right + 80, y + 4, quantity(row.score.value, "share"), "value strong", "end")
        drawing.text(
            width,
            y + 4,
            "baseline" if row.change is None else _points(row.change.absolute),
            "value",
            "end",
        )
    spoken = "; ".join(f"{r.name}: {quantity(r.score.value, 'share')}" for r in rows)
    return drawing.render(f"Score on {probe} by variant", spoken)


def _points(estimate: Estimate) -> str:
    if estimate.value is None:
        return "—"
    if estimate.low is None or estimate.high is None:
        return points(estimate.value)
    return f"{points(estimate.value)} ({between(points(estimate.low), points(estimate.high))})"
