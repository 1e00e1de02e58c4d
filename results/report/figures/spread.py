"""How a time is distributed over requests: one row per variant, and the cumulative curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from foundation.arrays import Floats
from foundation.format import interval, quantity
from results.report.figures.frame import AxisLabel, limit_line, x_axis, y_axis
from results.report.figures.svg import Axis, Drawing, dash, shorten, variant_class
from results.summary import Estimate

_CURVE_POINTS = 160


@dataclass(frozen=True)
class LatencySample:
    """One variant's times in ms: `values` of its successful requests, `p50` and `p95` as judged.

    `failed`: the number of failed requests.
    """

    name: str
    slot: int
    values: Floats
    failed: int
    p50: Estimate
    p95: Estimate


@dataclass(frozen=True)
class LimitLine:
    """An SLO on a time: `value` in ms, and `text`, its words in the figure.

    `percentile` is 0 to 100, or None for a mean.
    """

    value: float
    percentile: float | None
    text: str


def time_axis(
    samples: Sequence[LatencySample], limit: LimitLine | None, start: float, end: float
) -> Axis:
    """One axis for all variants, from zero to the slowest variant's p99 or the limit.

    It is a log axis where the variants' times lie more than a factor of 25 apart.
    """
    filled = [s.values for s in samples if s.values.size]
    if not filled:
        return Axis(0.0, 1.0, start, end)
    high = max(float(np.percentile(values, 99)) for values in filled)
    low = min(float(np.percentile(values, 1)) for values in filled)
    high = max(high, (limit.value if limit else 0.0)) * 1.06
    if low > 0 and high / low > 25:
        return Axis(low * 0.85, high, start, end, log=True)
    return Axis(0.0, high, start, end)


def rows(
    samples: Sequence[LatencySample], limit: LimitLine | None, label: str, width: float = 500
) -> Markup:
    """One row per variant: a histogram, the middle half, the median, and p95 with its interval."""
    left, right, top, step = 118.0, width - 104.0, 34.0, 56.0
    bottom = top + step * len(samples)
    drawing = Drawing(width, bottom + 46)
    x = time_axis(samples, limit, left, right)
    x_axis(drawing, x, top, bottom, AxisLabel(label, "ms", ticks=4))
    drawing.text(width, top - 12, "p50 · p95", "tick", "end")
    for index, sample in enumerate(samples):
        foot = top + step * (index + 1) - 17
        name = shorten(sample.name, left - 12)
        drawing.text(left - 10, foot + 2, name, "name", "end", title=sample.name)
        drawing.text(width, foot - 8, quantity(sample.p50.value, "ms"), "value", "end")
        drawing.text(width, foot + 8, quantity(sample.p95.value, "ms"), "value strong", "end")
        if sample.values.size:
            _histogram(drawing, x, sample, foot)
            _middle_half(drawing, x, sample, foot)
            _p95(drawing, x, sample, foot)
    if limit:
        ends = (top - 14, bottom)
        limit_line(drawing, x.clamp(limit.value), ends, limit.text, right + 40)
    return drawing.render(f"{label} by variant", _spoken(samples))


def _histogram(drawing: Drawing, x: Axis, sample: LatencySample, foot: float) -> None:
    bins = int(np.clip(1.5 * np.sqrt(sample.values.size), 8, 64))
    edges = np.geomspace(x.low, x.high, bins + 1) if x.log else np.linspace(x.low, x.high, bins + 1)
    counts, _ = np.histogram(np.clip(sample.values, x.low, x.high), edges)
    tall = 30.0 / max(1, counts.max())
    outline = [(x(float(edges[0])), foot)]
    for i, count in enumerate(counts):
        height = foot - count * tall
        outline += [(x(float(edges[i])), height), (x(float(edges[i + 1])), height)]
    outline.append((x(float(edges[-1])), foot))
    drawing.path(outline, f"shape {variant_class(sample.slot)}", closed=True)


def _middle_half(drawing: Drawing, x: Axis, sample: LatencySample, foot: float) -> None:
    q25, q50, q75 = (float(q) for q in np.percentile(sample.values, (25, 50, 75)))
    hover = (
        f"{sample.name}: middle half {quantity(q25, 'ms')} to {quantity(q75, 'ms')}, "
        f"median {quantity(q50, 'ms')}, n = {sample.values.size:,}"
    )
    start, end = x.clamp(q25), x.clamp(q75)
    css = f"box {variant_class(sample.slot)}"
    drawing.rect(start, foot + 3, max(1.0, end - start), 6, css, hover)
    drawing.line(x.clamp(q50), foot + 1, x.clamp(q50), foot + 11, "median", hover)


def _p95(drawing: Drawing, x: Axis, sample: LatencySample, foot: float) -> None:
    p95 = sample.p95
    if p95.value is None:
        return
    hover = f"{sample.name}: p95 {quantity(p95.value, 'ms')}"
    if around := interval(p95.low, p95.high, "ms"):
        hover += f", 95 % interval {around}"
    if p95.low is not None and p95.high is not None:
        css = f"whisker {variant_class(sample.slot)}"
        drawing.whisker(x.clamp(p95.low), x.clamp(p95.high), foot + 6, css, hover)
    drawing.marker(x.clamp(p95.value), foot + 6, sample.slot, 4.5, hover)


def cumulative(
    samples: Sequence[LatencySample],
    limit: LimitLine | None,
    label: str,
    width: float = 500,
    height: float = 330,
) -> Markup:
    """The share of requests answered within a time.

    A failed request is never answered, so the curve of a variant with failures stays under 100 %.
    """
    left, right, top, bottom = 46.0, width - 12.0, 34.0, height - 46.0
    drawing = Drawing(width, height)
    x, y = time_axis(samples, limit, left, right), Axis(0.0, 1.0, bottom, top)
    x_axis(drawing, x, top, bottom, AxisLabel(label, "ms"))
    y_axis(drawing, y, left, right, AxisLabel("answered within", "share"))
    for sample in samples:
        if sample.values.size:
            _curve(drawing, x, y, sample, limit)
    if limit:
        limit_line(drawing, x.clamp(limit.value), (top, bottom), limit.text, right, low=True)
        if limit.percentile is not None:
            target = y(limit.percentile / 100)
            drawing.line(left, target, x.clamp(limit.value), target, "limit")
    return drawing.render(
        f"{label}: share of requests answered within a time, by variant", _spoken(samples)
    )


def _curve(
    drawing: Drawing, x: Axis, y: Axis, sample: LatencySample, limit: LimitLine | None
) -> None:
    total = sample.values.size + sample.failed
    ordered = np.sort(sample.values)
    count = min(_CURVE_POINTS, ordered.size)
    picks = np.unique(np.linspace(0, ordered.size - 1, count).round().astype(int))
    points = [(float(ordered[i]), (int(i) + 1) / total) for i in picks]
    on_axis = [(x(t), y(share)) for t, share in points if x.low <= t <= x.high]
    if not on_axis:
        return
    end = x.end if points[-1][0] <= x.high else on_axis[-1][0]
    trace = [(on_axis[0][0], y(0.0)), *on_axis, (end, on_axis[-1][1])]
    hover = sample.name
    if limit:
        share = np.count_nonzero(ordered <= limit.value) / total
        hover += f": {share:.1%} within {quantity(limit.value, 'ms')}"
    drawing.path(trace, f"curve {variant_class(sample.slot)}", hover, dash(sample.slot))


def _spoken(samples: Sequence[LatencySample]) -> str:
    return "; ".join(
        f"{s.name}: p50 {quantity(s.p50.value, 'ms')}, p95 {quantity(s.p95.value, 'ms')}, "
        f"{s.values.size} answered, {s.failed} failed"
        for s in samples
    )
