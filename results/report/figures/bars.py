"""Rows of bars: tokens per request, why latency changed, and probe scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from foundation.format import (
    ABSENT,
    Scale,
    between,
    difference,
    interval,
    points,
    quantity,
    scale,
    signed,
    significant,
)
from results.report.figures.frame import AxisLabel, span, x_axis
from results.report.figures.svg import Axis, Drawing, shorten, variant_class
from results.summary import Decomposition, Difference, Estimate

_LEFT = 150.0


@dataclass(frozen=True)
class TokenRow:
    """Mean tokens per request of one variant.

    `change` is the total's difference to the baseline, None for the baseline itself.
    """

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
    x_axis(drawing, x, top, bottom, AxisLabel("Tokens per request, mean", ticks=6))
    for column, text in (
        (right + 70, "input"),
        (right + 140, "output"),
        (right + 210, "total"),
        (width, "total, difference"),
    ):
        drawing.text(column, top - 10, text, "tick", "end")
    for index, row in enumerate(rows):
        y = top + step * index + 11
        _token_bars(drawing, x, y, row)
        _token_values(drawing, right, y + 13, row)
    spoken = "; ".join(
        f"{r.name}: input {quantity(r.input.value, 'tokens')}, "
        f"output {quantity(r.output.value, 'tokens')}"
        for r in rows
    )
    return drawing.render("Tokens per request by variant", spoken)


def _token_bars(drawing: Drawing, x: Axis, y: float, row: TokenRow) -> None:
    css, name = variant_class(row.slot), shorten(row.name, _LEFT - 14)
    drawing.text(_LEFT - 10, y + 13, name, "name", "end", title=row.name)
    middle = row.input.value or 0.0
    start, end = x(middle), x(middle + (row.output.value or 0.0))
    hover = f"{row.name}: input {quantity(row.input.value, 'tokens')}"
    drawing.rect(x(0), y, start - x(0), 18, f"bar pale {css}", hover)
    hover = f"{row.name}: output {quantity(row.output.value, 'tokens')}"
    drawing.rect(start, y, end - start, 18, f"bar {css}", hover)
    total = row.total
    if total.low is not None and total.high is not None:
        hover = f"{row.name}: total {interval(total.low, total.high, 'tokens')}"
        drawing.whisker(x(total.low), x(total.high), y + 9, "whisker ink", hover)


def _token_values(drawing: Drawing, right: float, y: float, row: TokenRow) -> None:
    columns = ((right + 70, row.input), (right + 140, row.output), (right + 210, row.total))
    for column, estimate in columns:
        text = ABSENT if estimate.value is None else significant(estimate.value)
        drawing.text(column, y, text, "value", "end")
    change = "baseline" if row.change is None else _change(row.change.absolute, "tokens")
    drawing.text(drawing.width, y, change, "value", "end")


def _change(estimate: Estimate, unit: str) -> str:
    """A difference without its unit, which the column's title names."""
    if estimate.value is None:
        return ABSENT
    return difference(estimate.value, unit).removesuffix(f" {unit}")


PARTS = (
    ("prefill_and_queueing", "queueing and prefill"),
    ("verbosity", "verbosity (more or fewer tokens)"),
    ("speed_per_token", "speed per token"),
)
_TOTAL, _RESIDUAL = "total", "residual"


def decomposition(rows: Sequence[tuple[str, int, Decomposition]], width: float = 1000) -> Markup:
    """Each variant's change of mean latency against the baseline, and the parts it is the sum of.

    A row is a variant's name, its slot and its decomposition.
    """
    left, right, top = 260.0, width - 250.0, 30.0
    line, gap = 19.0, 23.0
    bottom = top + sum(gap + line * len(_lines(d)) for _, _, d in rows)
    drawing = Drawing(width, bottom + 46)
    estimates = [e for _, _, d in rows for _, e in _lines(d)]
    ends = [v for e in estimates for v in (e.value, e.low, e.high) if v is not None]
    x = Axis(*span([0.0, *ends]), left, right)
    unit = scale((e.value for e in estimates), "ms")
    label = "Change of mean latency against the baseline (left of zero: faster)"
    x_axis(drawing, x, top - 6, bottom, AxisLabel(label, "ms", ticks=7))
    drawing.line(x(0), top - 6, x(0), bottom, "zero")
    drawing.text(width - 140, top - 14, f"change, {unit.unit}", "tick", "end")
    drawing.text(width, top - 14, "95 % interval", "tick", "end")
    y = top
    for name, slot, parts in rows:
        drawing.text(4, y + 13, shorten(name, 140), "name strong", title=name)
        for part, estimate in _lines(parts):
            drawing.text(left - 12, y + 13, part, f"tick{_weight(part)}", "end")
            _part_bar(drawing, x, y, (part, estimate), variant_class(slot))
            _part_values(drawing, y + 13, (part, estimate), unit)
            y += line
        y += gap
    spoken = "; ".join(
        f"{name}: " + ", ".join(f"{part} {quantity(e.value, 'ms')}" for part, e in _lines(d))
        for name, _, d in rows
    )
    return drawing.render("Why mean latency changed against the baseline", spoken)


def _lines(parts: Decomposition) -> list[tuple[str, Estimate]]:
    """The total, its parts, and the residual where it is more than rounding.

    A residual of a thousandth of the change or less is rounding.
    """
    lines = [
        (_TOTAL, parts.latency),
        *((label, getattr(parts, key)) for key, label in PARTS),
    ]
    if abs(parts.residual) > max(0.05, 1e-3 * abs(parts.latency.value or 0.0)):
        lines.append((_RESIDUAL, Estimate(value=parts.residual)))
    return lines


def _weight(part: str) -> str:
    return " strong" if part == _TOTAL else ""


def _part_bar(
    drawing: Drawing, x: Axis, y: float, line: tuple[str, Estimate], variant: str
) -> None:
    """The bar of a part with its interval; `variant` is the variant's class."""
    part, estimate = line
    if estimate.value is None:
        drawing.text(x(0) + 6, y + 13, estimate.reason or "not known", "tick")
        return
    css = {_TOTAL: f"bar {variant}", _RESIDUAL: "bar rest"}.get(part, f"bar {variant} pale")
    tall, middle = 14 if part == _TOTAL else 11, y + 9
    start, end = sorted((x(0), x(estimate.value)))
    drawing.rect(start, middle - tall / 2, max(1.0, end - start), tall, css)
    if estimate.low is not None and estimate.high is not None:
        drawing.whisker(x(estimate.low), x(estimate.high), middle, "whisker ink", cap=3)


def _part_values(drawing: Drawing, y: float, line: tuple[str, Estimate], unit: Scale) -> None:
    part, estimate = line
    value, low, high = estimate.value, estimate.low, estimate.high
    if value is not None:
        text = signed(unit(value), value)
        drawing.text(drawing.width - 140, y, text, f"value{_weight(part)}", "end")
    if low is not None and high is not None:
        text = f"{signed(unit(low), low)} to {signed(unit(high), high)}"
        drawing.text(drawing.width, y, text, "tick", "end")


@dataclass(frozen=True)
class ScoreRow:
    """A variant's score on a probe, 0 to 1.

    `change` is its difference to the baseline, None for the baseline itself.
    """

    name: str
    slot: int
    score: Estimate
    change: Difference | None


def scores(
    probe: str, rows: Sequence[ScoreRow], baseline: float | None, width: float = 1000
) -> Markup:
    """A dot and its interval for every variant, and an upright line at the baseline's score."""
    top, step, right = 24.0, 27.0, width - 300.0
    bottom = top + step * len(rows)
    drawing = Drawing(width, bottom + 46)
    seen = [v for r in rows for v in (r.score.value, r.score.low, r.score.high) if v is not None]
    low, high = span([*seen, *([baseline] if baseline is not None else [])], pad=0.15)
    x = Axis(max(0.0, low), min(1.0, high), _LEFT, right)
    x_axis(drawing, x, top - 8, bottom, AxisLabel(f"Score on {probe}", "share", ticks=7))
    drawing.text(width, top - 12, "score · difference to the baseline", "tick", "end")
    if baseline is not None:
        drawing.line(x(baseline), top - 8, x(baseline), bottom, "reference")
    for index, row in enumerate(rows):
        _score(drawing, x, top + step * index + step / 2, row)
    spoken = "; ".join(f"{r.name}: {quantity(r.score.value, 'share')}" for r in rows)
    return drawing.render(f"Score on {probe} by variant", spoken)


def _score(drawing: Drawing, x: Axis, y: float, row: ScoreRow) -> None:
    name, score = shorten(row.name, _LEFT - 14), row.score
    drawing.text(_LEFT - 10, y + 4, name, "name", "end", title=row.name)
    if score.value is None:
        drawing.text(_LEFT + 8, y + 4, score.reason or "not measured", "tick")
        return
    value = quantity(score.value, "share")
    hover = f"{row.name}: {value} ({interval(score.low, score.high, 'share')}), n = {score.n}"
    if score.low is not None and score.high is not None:
        start, end = x(max(x.low, score.low)), x(min(x.high, score.high))
        drawing.whisker(start, end, y, f"whisker {variant_class(row.slot)}", hover)
    drawing.marker(x(score.value), y, row.slot, 5, hover)
    drawing.text(x.end + 80, y + 4, value, "value strong", "end")
    change = "baseline" if row.change is None else _points(row.change.absolute)
    drawing.text(drawing.width, y + 4, change, "value", "end")


def _points(estimate: Estimate) -> str:
    """A difference of shares in points, with its interval."""
    if estimate.value is None:
        return ABSENT
    if estimate.low is None or estimate.high is None:
        return points(estimate.value)
    return f"{points(estimate.value)} ({between(points(estimate.low), points(estimate.high))})"
