"""One variant's latency and goodput by offered rate: measured, modelled, and not known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from foundation.arrays import Floats
from foundation.format import between, interval, quantity, significant
from results.report.figures.frame import (
    TEXT,
    AxisLabel,
    band,
    hatched,
    known_pieces,
    x_axis,
    y_axis,
)
from results.report.figures.spread import LimitLine
from results.report.figures.svg import CHARACTER, Axis, Drawing, variant_class
from results.summary import Estimate

_TALL, _TALL_RATE, _GAP = 170.0, 100.0, 40.0
_BEYOND_TEXT = 70.0
"""Values beyond the axis whose markers are closer than this would cover one another."""
_ABOVE_LIMIT = 2.0
"""An axis ends at this many times the limit: an overloaded server's latency has no end."""


@dataclass(frozen=True)
class Modelled:
    """A metric by offered rate (k,) as a model has it, with its 95 % interval; NaN: not known."""

    rates: Floats
    values: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class MeasuredPoint:
    """A metric as measured at an offered rate; `left_out`: why it does not count, or empty."""

    rate: float
    estimate: Estimate
    left_out: str = ""


@dataclass(frozen=True)
class RatePane:
    """One metric, in `unit`: as measured, as modelled, and its limit.

    `is_rate`: requests/s of the offered ones, so that the most that it can be is a line.
    """

    label: str
    unit: str
    measured: Sequence[MeasuredPoint]
    modelled: Modelled | None = None
    limit: LimitLine | None = None
    is_rate: bool = False


@dataclass(frozen=True)
class HeldRange:
    """Requests/s that one replica holds within the SLO; `high` is None where no end is known."""

    low: float
    high: float | None

    @property
    def words(self) -> str:
        """ "12.1 to 13.4 requests/s"."""
        low = significant(self.low)
        if self.high is None:
            return f"at least {low} requests/s"
        high = significant(self.high)
        return f"{low if low == high else between(low, high)} requests/s"


@dataclass(frozen=True)
class VariantRates:
    """One variant's metrics over one axis of requests/s.

    `reach`: the highest rate that the model answers; None where there is no model. `replicas`: the
    servers that the rates are of, all together.
    """

    name: str
    slot: int
    panes: Sequence[RatePane]
    held: HeldRange | None = None
    reach: float | None = None
    replicas: int = 1


def rate_curve(curve: VariantRates, width: float = 500) -> Markup:
    """The metrics above one another, the held range as a shade, beyond the model hatched."""
    x = Axis(0.0, _highest_rate(curve), 62.0, width - 14.0)
    heights = [_TALL_RATE if pane.is_rate else _TALL for pane in curve.panes]
    tops = [52.0 + sum(heights[:i]) + _GAP * i for i in range(len(heights))]
    bottom = tops[-1] + heights[-1]
    drawing = Drawing(width, bottom + 46)
    for pane, top, tall in zip(curve.panes, tops, heights, strict=True):
        y = Axis(0.0, _top_of(pane, x), top + tall, top)
        _pane(drawing, x, y, curve, pane)
    for top, tall in zip(tops[:-1], heights, strict=False):
        _upper_grid(drawing, x, top, top + tall)
    x_axis(drawing, x, tops[-1], bottom, AxisLabel("Offered rate, requests/s", ticks=6))
    if curve.held:
        _held_text(drawing, x, curve.held)
    labels = " and ".join(pane.label for pane in curve.panes)
    return drawing.render(f"{labels} of {curve.name} by offered rate", _in_words(curve))


def _highest_rate(curve: VariantRates) -> float:
    """The end of the axis: beyond all that is drawn, with room for what is not known."""
    rates = [each.rate for pane in curve.panes for each in pane.measured]
    if curve.held:
        rates += [curve.held.low, curve.held.high or 0.0]
    if curve.reach is not None:
        rates.append(1.15 * curve.reach)
    return max(rates, default=0.0) * 1.04 or 1.0


def _top_of(pane: RatePane, x: Axis) -> float:
    """The end of a metric's axis: that of the values, at most twice the limit."""
    values = [
        v for m in pane.measured for v in (m.estimate.value, m.estimate.high) if v is not None
    ]
    if pane.modelled:
        values += [*pane.modelled.values.tolist(), *pane.modelled.high.tolist()]
    if pane.is_rate:
        values = [min(value, x.high) for value in values]
    most = max((v for v in values if np.isfinite(v)), default=0.0)
    if pane.limit:
        most = max(1.25 * pane.limit.value, min(most, _ABOVE_LIMIT * pane.limit.value))
    return most * 1.06 or 1.0


def _pane(drawing: Drawing, x: Axis, y: Axis, curve: VariantRates, pane: RatePane) -> None:
    top, bottom = y.end, y.start
    if curve.reach is not None:
        box = (x(curve.reach), top, x.end, bottom)
        reach = significant(curve.reach)
        hatched(drawing, box, f"the model knows nothing beyond {reach} requests/s")
    if curve.held:
        end = x.clamp(curve.held.high or curve.held.low)
        start = x(curve.held.low)
        drawing.rect(start, top, max(2.0, end - start), bottom - top, "held", _held_words(curve))
    y_axis(drawing, y, x.start, x.end, AxisLabel(pane.label, pane.unit, ticks=4))
    if pane.modelled:
        _modelled(drawing, x, y, curve, pane)
    if pane.limit:
        drawing.line(x.start, y(pane.limit.value), x.end, y(pane.limit.value), "limit")
        drawing.text(x.start + 6, y(pane.limit.value) - 6, pane.limit.text, "limit-text halo")
    if curve.reach is not None and pane is curve.panes[0]:
        _unknown_text(drawing, x, y, curve.reach, pane)
    with_text = _told_apart(x, y, pane.measured)
    for measured in pane.measured:
        _measured(drawing, x, y, curve, pane, measured)
        if measured.rate in with_text:
            _beyond_text(drawing, x, y, pane, measured)


def _told_apart(x: Axis, y: Axis, measured: Sequence[MeasuredPoint]) -> list[float]:
    """The rates whose value beyond the axis has room to stand beside its marker."""
    rates: list[float] = []
    for rate in sorted(m.rate for m in measured if (m.estimate.value or 0.0) > y.high):
        if not rates or x(rate) - x(rates[-1]) > _BEYOND_TEXT:
            rates.append(rate)
    return rates


def _unknown_text(drawing: Drawing, x: Axis, y: Axis, reach: float, pane: RatePane) -> None:
    """The words in the hatched part, at its left end as far as they fit there."""
    is_measured = any(measured.rate > reach for measured in pane.measured)
    text = "not known to the model" if is_measured else "not known"
    fits = x(reach) + 5 + len(text) * TEXT * CHARACTER < x.end
    place = x(reach) + 5 if fits else x.end - 5
    drawing.text(place, y.end + 15, text, "tick halo", "" if fits else "end")


def _upper_grid(drawing: Drawing, x: Axis, top: float, bottom: float) -> None:
    """The grid of a pane that has another one under it, which names the rates."""
    for tick in x.ticks(6):
        drawing.line(x(tick), top, x(tick), bottom, "grid")
    drawing.line(x.start, bottom, x.end, bottom, "axis")


def _modelled(drawing: Drawing, x: Axis, y: Axis, curve: VariantRates, pane: RatePane) -> None:
    """The model's band and line, cut off at the top of the pane."""
    modelled, css = pane.modelled, variant_class(curve.slot)
    assert modelled is not None
    box = f"{x.start:g} {y.end:g} {x.end - x.start:g} {y.start - y.end:g}"
    with drawing.element(
        "svg", "clip", x=x.start, y=y.end, width=x.end - x.start, height=y.start - y.end,
        viewBox=box, aria_label=f"{pane.label}, modelled",
    ):  # fmt: skip
        if pane.is_rate:
            most = min(x.high, y.high)
            drawing.line(x(0.0), y(0.0), x(most), y(most), "reference", "all that is offered")
        ends = np.stack([modelled.low, modelled.high])
        far = np.clip(ends, -y.high, 2 * y.high)  # an unbounded end leaves the pane
        band(drawing, x, y, modelled.rates, (far[0], far[1]), f"band {css}")
        line = np.minimum(modelled.values, 2 * y.high)
        for piece in known_pieces(~np.isnan(line)):
            points = [(x(modelled.rates[i]), y(line[i])) for i in piece]
            drawing.path(points, f"curve {css}", f"{curve.name}: {pane.label}, modelled")


def _measured(
    drawing: Drawing, x: Axis, y: Axis, curve: VariantRates, pane: RatePane, at: MeasuredPoint
) -> None:
    """A marker with its interval; that of a value beyond the axis stands at its end."""
    place, estimate = x(at.rate), at.estimate
    if estimate.value is None:
        return
    pale = " pale" if at.left_out else ""
    if estimate.low is not None and estimate.high is not None:
        ends = (y.clamp(estimate.low), y.clamp(estimate.high))
        drawing.upright_whisker(place, *ends, f"whisker {variant_class(curve.slot)}{pale}")
    hover = f"{curve.name} at {at.rate:g} requests/s, measured: {_value(pane, estimate)}"
    hover += f"; does not count: {at.left_out}" if at.left_out else ""
    drawing.marker(place, y.clamp(estimate.value), curve.slot, 4.5, hover, f"mark{pale}")


def _beyond_text(drawing: Drawing, x: Axis, y: Axis, pane: RatePane, at: MeasuredPoint) -> None:
    """The value of a marker at the end of the axis, left of it as far as it fits there."""
    place, text = x(at.rate), f"↑ {quantity(at.estimate.value, pane.unit)}"
    fits = place - 10 - len(text) * TEXT * CHARACTER > x.start
    beside = place + (-10 if fits else 10)
    drawing.text(beside, y.end + 4, text, "tick halo", "end" if fits else "")


def _held_text(drawing: Drawing, x: Axis, held: HeldRange) -> None:
    """What one replica holds, over the middle of its range as far as the text fits there."""
    text = f"holds {held.words}"
    half = len(text) * TEXT * CHARACTER / 2
    middle = (x(held.low) + x.clamp(held.high or held.low)) / 2
    place = min(max(middle, x.start + half), drawing.width - half)
    drawing.text(place, 16, text, "value strong", "middle")


def _held_words(curve: VariantRates) -> str:
    assert curve.held is not None
    count = curve.replicas
    who = "one replica holds" if count == 1 else f"{count} replicas together hold"
    return f"{curve.name}: {who} {curve.held.words} within the SLO"


def _value(pane: RatePane, estimate: Estimate) -> str:
    around = interval(estimate.low, estimate.high, pane.unit)
    return f"{pane.label} {quantity(estimate.value, pane.unit)}{f' ({around})' if around else ''}"


def _in_words(curve: VariantRates) -> str:
    parts = [_held_words(curve)] if curve.held else []
    parts += [
        f"at {measured.rate:g} requests/s measured {_value(pane, measured.estimate)}"
        for pane in curve.panes
        for measured in pane.measured
        if measured.estimate.value is not None
    ]
    if curve.reach is not None:
        parts.append(f"beyond {significant(curve.reach)} requests/s not known")
    return "; ".join(parts)
