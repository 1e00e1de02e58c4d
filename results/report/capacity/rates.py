"""The figures of a plan's rates: latency and goodput of one replica by offered rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from foundation.format import capital, limit_text, written
from results.capacity.plan.capacity_plan import MetricBand, RateCurve, VariantCapacity
from results.metrics import RECORDS
from results.report.figures.rate_curve import (
    HeldRange,
    MeasuredPoint,
    Modelled,
    RatePane,
    VariantRates,
    rate_curve,
)
from results.report.figures.spread import LimitLine

_USUAL = "latency_p95"
_MOST_TIMES = 2


def rate_figures(
    variants: Sequence[VariantCapacity], slots: Mapping[str, int]
) -> list[tuple[str, Markup]]:
    """A figure of each variant with a model, or with two measured rates, and its name."""
    curves = [(v.variant, _variant_rates(v, slots)) for v in variants]
    return [(name, rate_curve(curve)) for name, curve in curves if _is_curve(curve)]


def _is_curve(curve: VariantRates) -> bool:
    rates = {measured.rate for pane in curve.panes for measured in pane.measured}
    return bool(curve.panes) and (curve.reach is not None or len(rates) > 1)


def _variant_rates(variant: VariantCapacity, slots: Mapping[str, int]) -> VariantRates:
    times = [key for key in variant.limits if key in RECORDS and RECORDS[key].kind == "time"]
    keys = [*(times[:_MOST_TIMES] or [_USUAL]), "goodput"]
    panes = [pane for key in keys if (pane := _pane(variant, key)) is not None]
    rate = variant.rate
    held = None if rate.low is None else HeldRange(rate.low, rate.high)
    return VariantRates(
        variant.variant, slots.get(variant.variant, 0), panes, held, _reach(variant.curve)
    )


def _pane(variant: VariantCapacity, key: str) -> RatePane | None:
    """A metric by rate; None where it was neither measured nor modelled at any."""
    record, curve = RECORDS[key], variant.curve
    measured = [
        MeasuredPoint(point.rate, point.metrics[key], point.left_out or "")
        for point in variant.points
        if key in point.metrics and point.metrics[key].value is not None
    ]
    metric_band = curve.metrics.get(key) if curve else None
    modelled = _modelled(curve, metric_band) if curve and metric_band else None
    if not measured and modelled is None:
        return None
    limit, is_rate = variant.limits.get(key), record.kind == "rate"
    line = None if limit is None or is_rate else _limit(key, limit)
    return RatePane(capital(record.label), record.unit, measured, modelled, line, is_rate)


def _limit(key: str, limit: float) -> LimitLine:
    unit = RECORDS[key].unit

    def write(value: float, more: int) -> str:
        return written(unit, value, more)

    return LimitLine(limit, None, f"SLO ≤ {limit_text(limit, write)}")


def _modelled(curve: RateCurve, of: MetricBand) -> Modelled:
    rates = np.array(curve.rates, float)
    return Modelled(rates, *(np.array(each, float) for each in (of.value, of.low, of.high)))


def _reach(curve: RateCurve | None) -> float | None:
    """The highest rate at which the model has an answer; None where it has none."""
    if curve is None:
        return None
    answered = [
        rate
        for band in curve.metrics.values()
        for rate, value in zip(curve.rates, band.value, strict=True)
        if value is not None
    ]
    return max(answered, default=None)
