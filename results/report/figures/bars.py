"""Rows of bars: tokens per request, why latency changed, and probe scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from results.report.figures.frame import span, x_axis
from results.report.format import difference, interval, points, quantity, significant
from results.report.svg import Axis, Drawing, shorten, variant_class
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
        [(r.input.value or 0.0) + (r.output.value or 0.0) for r in rows] + [r.total.high or 0.0 for r in rows], default=1.0
    )
    x = Axis(0.0, (most or 1.0) * 1.04, _LEFT, right)
    x_axis(drawing, x, top, bottom, "tokens", "Tokens per request, mean", count=6)
    for column, text in ((right + 70, "input"), (right + 140, "output"), (right + 210, "total"), (width, "total, difference")):
        drawing.text(column, top - 10, text, "tick", "end")
    for index, row in enumerate(rows):
        y, css = top + step * index + 11, variant_class(row.slot)
        drawing.text(_LEFT - 10, y + 13, shorten(row.name, _LEFT - 14), "name", "end", title=row.name)
        given, written = row.input.value or 0.0, row.output.value or 0.0
        drawing.rect(x(0), y, x(given) - x(0), 18, f"bar pale {css}", f"{row.name}: input {quantity(row.input.value, 'tokens')}")
        drawing.rect(
            x(given),
            y,
            x(given + written) - x(given),
            18,
            f"bar {css}",
            f"{row.name}: output {quantity(row.output.value, 'tokens')}",
        )
        if row.total.low is not None and row.total.high is not None:
            drawing.whisker(
                x(row.total.low), x(row.total.high), y + 9, "whisker ink", f"{row.name}: total {interval(row.total, 'tokens')}"
            )
        for column, estimate in ((right + 70, row.input), (right + 140, row.output), (right + 210, row.total)):
            drawing.text(column, y + 13, "—" if estimate.value is None else significant(estimate.value), "value", "end")
        changed = "baseline" if row.change is None else _change(row.change.absolute, "tokens")
        drawing.text(width, y + 13, changed, "value", "end")
    spoken = "; ".join(
        f"{r.name}: input {quantity(r.input.value, 'tokens')}, output {quantity(r.output.value, 'tokens')}" for r in rows
    )
    return drawing.render("Tokens per request by variant", spoken)


def _change(estimate: Estimate, unit: str) -> str:
    return "—" if estimate.value is None else difference(estimate.value, unit).removesuffix(f" {unit}")


PARTS = (
    ("prefill_and_queueing", "queueing and prefill"),
    ("verbosity", "verbosity (more or fewer tokens)"),
    ("speed_per_token", "speed per token"),
)


def decomposition(rows: Sequence[tuple[str, int, Decomposition]], width: float = 1000) -> Markup:
    """For each variant the change of its mean latency against the baseline, and the parts that add up to it."""
    left, right, top = 260.0, width - 230.0, 22.0
    line, pad = 19.0, 42.0
    bottom = top + sum(pad + line * (len(PARTS) + (1 if _matters(d) else 0)) for _, _, d in rows)
    drawing = Drawing(width, bottom + 46)
    known = [d for _, _, d in rows]
    ends = [v for d in known for e in (d.latency, *(getattr(d, key) for key, _ in PARTS)) for v in (e.value, e.low, e.high)]
    low, high = span([0.0, *(v for v in ends if v is not None), *(d.residual for d in known)])
    x = Axis(low, high, left, right)
    x_axis(drawing, x, top - 6, bottom, "ms", "Change of mean latency against the baseline (left of zero: faster)", count=7)
    drawing.line(x(0), top - 6, x(0), bottom, "zero")
    y = top
    for name, slot, parts in rows:
        drawing.text(4, y + 14, shorten(name, 130), "name strong", title=name)
        _bar(drawing, x, y, "total", parts.latency, f"bar {variant_class(slot)}", left, width, strong=True)
        y += line + 3
        for key, label in PARTS:
            _bar(drawing, x, y, label, getattr(parts, key), f"bar pale {variant_class(slot)}", left, width)
            y += line
        if _matters(parts):
            _bar(drawing, x, y, "residual", Estimate(value=parts.residual), "bar rest", left, width)
            y += line
        y += pad - line - 3
    spoken = "; ".join(
        f"{name}: {quantity(d.latency.value, 'ms')} in total, "
        + ", ".join(f"{label} {quantity(getattr(d, key).value, 'ms')}" for key, label in PARTS)
        for name, _, d in rows
    )
    return drawing.render("Why mean latency changed against the baseline", spoken)


def _matters(parts: Decomposition) -> bool:
    """A residual is printed where it is more than rounding: a thousandth of the change."""
    return abs(parts.residual) > max(0.05, 1e-3 * abs(parts.latency.value or 0.0))


def _bar(
    drawing: Drawing, x: Axis, y: float, label: str, estimate: Estimate, css: str, left: float, width: float, strong: bool = False
) -> None:
    weight = " strong" if strong else ""
    drawing.text(left - 12, y + 13, label, "tick" + weight, "end")
    if estimate.value is None:
        drawing.text(x(0) + 6, y + 13, estimate.reason or "not known", "tick")
        return
    start, end = sorted((x(0), x(estimate.value)))
    tall = 14 if strong else 11
    drawing.rect(start, y + 9 - tall / 2, max(1.0, end - start), tall, css)
    if estimate.low is not None and estimate.high is not None:
        drawing.whisker(x(estimate.low), x(estimate.high), y + 9, "whisker ink", cap=3)
    drawing.text(width - 130, y + 13, difference(estimate.value, "ms"), "value" + weight, "end")
    if around := interval(estimate, "ms"):
        drawing.text(width, y + 13, around, "tick", "end")


@dataclass(frozen=True)
class ScoreRow:
    """A variant's score on a probe, 0 to 1, and its difference to the baseline (None for the baseline itself)."""

    name: str
    slot: int
    score: Estimate
    change: Difference | None


def scores(probe: str, rows: Sequence[ScoreRow], baseline: float | None, width: float = 1000) -> Markup:
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
        drawing.text(_LEFT - 10, y + 4, shorten(row.name, _LEFT - 14), "name", "end", title=row.name)
        if row.score.value is None:
            drawing.text(_LEFT + 8, y + 4, row.score.reason or "not measured", "tick")
            continue
        said = f"{row.name}: {quantity(row.score.value, 'share')} ({interval(row.score, 'share')}), n = {row.score.n}"
        if row.score.low is not None and row.score.high is not None:
            drawing.whisker(
                x(max(x.low, row.score.low)), x(min(x.high, row.score.high)), y, f"whisker {variant_class(row.slot)}", said
            )
        drawing.marker(x(row.score.value), y, row.slot, 5, said)
        drawing.text(right + 80, y + 4, quantity(row.score.value, "share"), "value strong", "end")
        drawing.text(width, y + 4, "baseline" if row.change is None else _points(row.change.absolute), "value", "end")
    spoken = "; ".join(f"{r.name}: {quantity(r.score.value, 'share')}" for r in rows)
    return drawing.render(f"Score on {probe} by variant", spoken)


def _points(estimate: Estimate) -> str:
    if estimate.value is None:
        return "—"
    around = (
        "" if estimate.low is None or estimate.high is None else f" ({points(estimate.low)[:-7]} to {points(estimate.high)[:-7]})"
    )
    return points(estimate.value) + around
