"""What the SLO lets a single request take, which goodput and attainment count by."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan, nan

from results.config import Slo
from results.measures.values import Limits
from results.metrics import RECORDS
from results.summary import Estimate


def request_limits(slo: Slo, base: Mapping[str, Estimate]) -> Limits:
    """The widest limit on each time, in ms, so that a p50's does not bind every request.

    `base`: the baseline's metrics under the same load, for relative limits. NaN where it has none.
    """
    limits: dict[str, float] = {}
    for metric, limit in slo.limits.items():
        record = RECORDS[metric]
        if record.kind != "time":
            continue
        most = limit.absolute
        if most is None:
            value = base[metric].value if metric in base else None
            most = nan if value is None or limit.relative is None else limit.relative * value
        before = limits.get(record.family, 0.0)
        limits[record.family] = nan if isnan(before + most) else max(before, most)
    return limits


def no_goodput(limits: Limits) -> str | None:
    """Why no request can be held against the limits; None where all of them are known."""
    if not limits:
        return "the slo names no time"
    unknown = [family for family, limit in limits.items() if isnan(limit)]
    if unknown:
        return f"the limit on {unknown[0]} is relative to the baseline, which has no such value"
    return None
