"""How a time is distributed over requests: a row a variant, and the cumulative curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from foundation.format import interval, quantity
from results.report.figures.frame import limit_line, x_axis, y_axis
from results.report.figures.svg import Axis, Drawing, dash, shorten, variant_class
from results.summary import Estimate

_CURVE_POINTS = 160


@dataclass(frozen=True)
class Sample:
    """One variant's times in ms over its successful requests, how many requests failed, and its p50 and p95 as judged."""

    name: str
    slot: int
    values: NDArray[np.float64]
    failed: int
    p50: Estimate
    p95: Estimate


@dataclass(frozen=True)
class Limit:
    """What an SLO asks of a percentile: `percentile` 0 to 100 (None for a mean), `value` in ms, and its words."""

    value: float
    percentile: float | None
    text: str


def time_axis(samples: Sequence[Sample], limit: Limit | None, start: float, end: float) -> Axis:
    """One axis for all variants: log where they lie more than a factor of 25 apart, and cut at the slowest variant's p99."""
    filled = [s.values for s in samples if s.values.size]
    if not filled:
        return Axis(0.0, 1.0, start, end)
    high = max(float(np.percentile(values, 99)) for values in filled)
    low = min(float(np.percentile(values, 1)) for values in filled)
    high = max(high, (limit.value if limit else 0.0)) * 1.06
    if low > 0 and high / low > 25:
        return Axis(low * 0.85, high, start, end, log=True)
    return Axis(0.0, high, start, end)


def rows(samples: Sequence[Sample], limit: Limit | None, label: str, width: float = 500) -> Markup:
    """A row a variant: the shape of the distribution, its middle half and median, and p95 with its interval."""
    left, right, top, step = 118.0, width - 104.0, 34.0, 56.0
    bottom = top + step * len(samples)
    drawing = Drawing(width, bottom + 46)
    x = time_axis(samples, limit, left, right)
    x_axis(drawing, x, top, bottom, "ms", label, count=4)
    drawing.text(width, top - 12, "p50 · p95", "tick", "end")
    for index, sample in enumerate(samples):
        foot = top + step * (index + 1) - 17
        drawing.text(
            left - 10, foot + 2, shorten(sample.name, left - 12), "name", "end", title=sample.name
        )
        drawing.text(width, foot - 8, quantity(sample.p50.value, "ms"), "value", "end")
        drawing.text(width, foot + 8, quantity(sample.p95.value, "ms"), "value strong", "end")
        if sample.values.size:
            _row(drawing, x, sample, foot)
    if limit:
        limit_line(drawing, x.clamp(limit.value), top - 14, bottom, limit.text, right + 60)
    return drawing.render(f"{label} by variant", _spoken(samples))


def _row(drawing: Drawing, x: Axis, sample: Sample, foot: float) -> None:
    css = variant_class(sample.slot)
    bins = int(np.clip(1.5 * np.sqrt(sample.values.size), 8, 64))
    edges = np.geomspace(x.low, x.high, bins + 1) if x.log else np.linspace(x.low, x.high, bins + 1)
    counts, _ = np.histogram(np.clip(sample.values, x.low, x.high), edges)
    tall = 30.0 / max(1, counts.max())
    outline = [(x(float(edges[0])), foot)]
    for i, count in enumerate(counts):
        outline += [
            (x(float(edges[i])), foot - count * tall),
            (x(float(edges[i + 1])), foot - count * tall),
        ]
    drawing.path([*outline, (x(float(edges[-1])), foot)], f"shape {css}", closed=True)
    q25, q50, q75 = (float(q) for q in np.percentile(sample.values, (25, 50, 75)))
    n = sample.values.size
    hover = f"{sample.name}: middle half {quantity(q25, 'ms')} to {quantity(q75, 'ms')}, median {quantity(q50, 'ms')}, n = {n:,}"
    drawing.rect(
        x.clamp(q25), foot + 3, max(1.0, x.clamp(q75) - x.clamp(q25)), 6, f"box {css}", hover
    )
    drawing.line(x.clamp(q50), foot + 1, x.clamp(q50), foot + 11, "median", hover)
    if sample.p95.value is not None:
        said = f"{sample.name}: p95 {quantity(sample.p95.value, 'ms')}"
        if around := interval(sample.p95.low, sample.p95.high, "ms"):
            said += f", 95 % interval {around}"
        if sample.p95.low is not None and sample.p95.high is not None:
            drawing.whisker(
                x.clamp(sample.p95.low), x.clamp(sample.p95.high), foot + 6, f"whisker {css}", said
            )
        drawing.marker(x.clamp(sample.p95.value), foot + 6, sample.slot, 4.5, said)


def cumulative(
    samples: Sequence[Sample],
    limit: Limit | None,
    label: str,
    width: float = 500,
    height: float = 330,
) -> Markup:
    """Share of requests answered within a time. A failed request never is, so a variant with failures stays under 100 %."""
    left, right, top, bottom = 46.0, width - 12.0, 34.0, height - 46.0
    drawing = Drawing(width, height)
    x, y = time_axis(samples, limit, left, right), Axis(0.0, 1.0, bottom, top)
    x_axis(drawing, x, top, bottom, "ms", label)
    y_axis(drawing, y, left, right, "share", "answered within")
    for sample in samples:
        total = sample.values.size + sample.failed
        if not sample.values.size:
            continue
        ordered = np.sort(sample.values)
        picks = np.unique(
            np.linspace(0, ordered.size - 1, min(_CURVE_POINTS, ordered.size)).round().astype(int)
        )
        points = [(float(ordered[i]), (int(i) + 1) / total) for i in picks]
        shown = [(x(t), y(share)) for t, share in points if x.low <= t <= x.high]
        if shown:
            end = x.end if points[-1][0] <= x.high else shown[-1][0]
            trace = [(shown[0][0], y(0.0)), *shown, (end, shown[-1][1])]
            within = (
                ""
                if limit is None
                else f": {np.count_nonzero(ordered <= limit.value) / total:.1%} within {quantity(limit.value, 'ms')}"
            )
            drawing.path(
                trace,
                f"curve {variant_class(sample.slot)}",
                f"{sample.name}{within}",
                dash(sample.slot),
            )
    if limit:
        limit_line(drawing, x.clamp(limit.value), top, bottom, limit.text, right, low=True)
        if limit.percentile is not None:
            target = y(limit.percentile / 100)
            drawing.line(left, target, x.clamp(limit.value), target, "limit")
    return drawing.render(
        f"{label}: share of requests answered within a time, by variant", _spoken(samples)
    )


def _spoken(samples: Sequence[Sample]) -> str:
    return "; ".join(
        f"{s.name}: p50 {quantity(s.p50.value, 'ms')}, p95 {quantity(s.p95.value, 'ms')}, "
        f"{s.values.size} answered, {s.failed} failed"
        for s in samples
    )
