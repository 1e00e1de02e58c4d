"""The load that a plan names to be held against: one that was not measured, with its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec.structs import replace

from foundation.format import interval, quantity, significant
from results.capacity.plan.capacity_plan import (
    Audit,
    LoadPoint,
    MetricBand,
    RateCurve,
    VariantCapacity,
)
from results.metrics import RECORDS, label_of
from results.summary import Estimate, Outcome

NEAR = 0.02
"""Rates this close, as a share, are the same load."""
SHARES = (0.75, 0.5, 0.9, 0.6)
"""Of the highest rate, where that one and the load at the peak were measured."""


def next_audit(capacity: VariantCapacity, earlier: Sequence[Audit]) -> Audit | None:
    """The load to measure next; None where the variant has no rate, or every candidate is measured.

    Candidates: the highest rate that the plan says one replica holds, the load that a replica has
    at the peak, and shares of the first.
    """
    held, peak = capacity.rate.low, capacity.peak
    if held is None or peak is None or capacity.source is None:
        return None
    working = peak.rate / peak.replicas
    known = [point.rate for point in capacity.points]
    known += [a.rate for a in earlier if a.variant == capacity.variant and a.measured is not None]
    for rate in (held, working, *(share * held for share in SHARES)):
        if rate > 0 and not any(abs(rate / other - 1) <= NEAR for other in known if other > 0):
            return _named(capacity, float(f"{rate:.3g}"))
    return None


def _named(capacity: VariantCapacity, rate: float) -> Audit:
    """The audit of one replica at `rate`."""
    expected = expected_at(capacity.curve, rate)
    if not expected:
        expected = {
            metric: Estimate(value=None, high=limit, reason="no model: at most the limit")
            for metric, limit in capacity.limits.items()
        }
    figures = ", ".join(_figure(metric, each) for metric, each in expected.items())
    return Audit(
        variant=capacity.variant,
        rate=rate,
        expected_outcome="holds",
        expected=expected,
        source=capacity.source or "measured",
        limits=capacity.limits,
        sentence=(
            f"not measured: {capacity.variant} at {significant(rate)} requests/s on one replica; "
            f"expected to hold the SLO with {figures}; --audit measures it"
        ),
    )


def _figure(metric: str, each: Estimate) -> str:
    """A metric by name, with its value and its interval."""
    return f"{label_of(metric)} {_words(metric, each)}"


def _unit(metric: str) -> str:
    return RECORDS[metric].unit if metric in RECORDS else ""


def _words(metric: str, each: Estimate) -> str:
    unit = _unit(metric)
    if each.value is None:
        return f"at most {quantity(each.high or 0.0, unit)}"
    if each.low is None or each.high is None:
        return quantity(each.value, unit)
    return f"{quantity(each.value, unit)} ({interval(each.low, each.high, unit)})"


def expected_at(curve: RateCurve | None, rate: float) -> dict[str, Estimate]:
    """The metrics of a curve at a rate, between its points in a straight line; none beyond it."""
    if curve is None or not curve.rates or not curve.rates[0] <= rate <= curve.rates[-1]:
        return {}

    def at(values: Sequence[float | None]) -> float | None:
        nans = [np.nan if each is None else each for each in values]
        between = float(np.interp(rate, curve.rates, nans))
        return None if np.isnan(between) else between

    def estimate(band: MetricBand) -> Estimate:
        return Estimate(value=at(band.value), low=at(band.low), high=at(band.high))

    expected = {metric: estimate(band) for metric, band in curve.metrics.items()}
    return {metric: each for metric, each in expected.items() if each.value is not None}


def audit_points(
    audits: Sequence[Audit], variant: str, limits: Mapping[str, float]
) -> list[LoadPoint]:
    """The audits of a variant that were judged by these limits, as measured loads."""
    return [
        LoadPoint(
            stage="audit",
            rate=audit.rate,
            outcome=audit.outcome,
            metrics=audit.measured,
            source="audit",
        )
        for audit in audits
        if audit.variant == variant
        and audit.measured is not None
        and audit.outcome is not None
        and audit.limits == limits
    ]


def measured_audit(
    audit: Audit, measured: Mapping[str, Estimate], outcome: Outcome, at: str
) -> Audit:
    """The audit with what was measured, `at` a time (UTC), beside what was expected."""
    metrics = {key: measured[key] for key in audit.expected if key in measured}
    inside = {
        key: _meet(audit.expected[key], each)
        for key, each in metrics.items()
        if each.value is not None
    }
    figures = "; ".join(
        f"{label_of(key)} {quantity(each.value, _unit(key))}, "
        f"planned {_words(key, audit.expected[key])}"
        for key, each in metrics.items()
        if each.value is not None
    )
    verdict = "not as planned"
    if all(inside.values()) and outcome in (audit.expected_outcome, "unsettled"):
        verdict = "as planned" if outcome == audit.expected_outcome else "as planned so far"
    return replace(
        audit,
        measured=metrics,
        outcome=outcome,
        inside=inside,
        measured_at=at,
        sentence=(
            f"measured: {audit.variant} at {significant(audit.rate)} requests/s {verdict}: the SLO "
            f"{_OUTCOMES[outcome]}; {figures or 'no metric could be measured'}"
        ),
    )


_OUTCOMES: dict[Outcome, str] = {"holds": "holds", "fails": "fails", "unsettled": "is not settled"}


def _meet(expected: Estimate, measured: Estimate) -> bool:
    """Whether the two intervals have a value in common."""

    def ends(each: Estimate) -> tuple[float, float]:
        low = each.low if each.low is not None else each.value
        high = each.high if each.high is not None else each.value
        return (
            float("-inf") if low is None else low,
            float("inf") if high is None else high,
        )

    (a, b), (c, d) = ends(expected), ends(measured)
    return a <= d and c <= b
