"""The rate that one replica holds: the model's, the search's or the measured one, and which counts.

A measurement that contradicts the model counts, and the model does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from foundation.format import rate_text
from results.capacity.plan.capacity_plan import RateCurve, RateSource
from results.capacity.plan.measured_rate import MeasuredRate
from results.summary import Estimate


@dataclass(frozen=True)
class ModelledRate:
    """What the model of a variant says one replica holds, requests/s.

    `rate.high` is None where the model holds every rate that it can speak of. A `rate` without
    value has the reason. `curve`: its metrics against the rate.
    """

    rate: Estimate
    curve: RateCurve | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SearchedRate:
    """What a search found: one replica holds `low` requests/s and does not hold `high`."""

    low: float | None
    high: float | None
    reason: str | None = None


@dataclass(frozen=True)
class ReplicaRate:
    """The rate that counts. `rate.low` decides; None in it has the reason.

    `sentence`: the rate in words; `beyond`: what is known of higher ones, where it was measured.
    `contradiction`: where model and measurement disagree.
    """

    rate: Estimate
    source: RateSource | None
    sentence: str
    beyond: str = ""
    contradiction: str | None = None

    @property
    def deciding(self) -> float | None:
        """The rate, requests/s, that replicas are counted by."""
        return self.rate.low


def replica_rate(
    measured: MeasuredRate, model: ModelledRate | str | None, search: SearchedRate | None = None
) -> ReplicaRate:
    """The rate of one replica from all that is known of it.

    `model`: a text is the reason why there is none; None: nobody made one.
    """
    if search is not None and search.low is not None:
        return _searched(search.low, search.high)
    if isinstance(model, ModelledRate) and _holds_some(measured, model.rate):
        contradiction = _contradiction(measured, model.rate)
        if contradiction is None and _tells_more(model.rate, measured):
            return _modelled(measured, model.rate)
        return _measured(measured, contradiction, contradiction)
    if isinstance(model, ModelledRate):
        return _measured(measured, f"by the model, {model.rate.reason}")
    return _measured(measured, f"no model: {model}" if model else None)


def _tells_more(model: Estimate, measured: MeasuredRate) -> bool:
    """Whether the model says more than the measured loads: a higher rate, or where it ends."""
    assert model.low is not None
    return model.high is not None or model.low > (measured.held or 0.0)


def _holds_some(measured: MeasuredRate, model: Estimate) -> bool:
    """Whether some rate is held: by the model's lower end, which may be zero, or as measured."""
    return model.low is not None and max(model.low, measured.held or 0.0) > 0


def _searched(low: float, high: float | None) -> ReplicaRate:
    above = "" if high is None else f" and not {rate_text(high)}"
    rate = Estimate(value=None, low=low, high=high, reason="a search gives an interval, no point")
    bound = "at least " if high is None else ""
    return ReplicaRate(
        rate, "search", f"one replica holds {bound}{low:.3g} requests/s within the SLO{above}, by "
        "search",
    )  # fmt: skip


def _modelled(measured: MeasuredRate, model: Estimate) -> ReplicaRate:
    """The model's interval, made narrower by what was measured."""
    assert model.low is not None
    low = max(model.low, measured.held or 0.0)
    ceiling = min(measured.broken, inf if model.high is None else model.high)
    high = None if ceiling == inf else ceiling
    # The value of a lower bound is that bound, no middle of what a replica may hold.
    value = None if model.value is None or model.high is None else model.value
    if value is not None:
        value = min(max(value, low), ceiling)
    rate = Estimate(value=value, low=low, high=high, n=model.n, reason=model.reason)
    if value is None or high is None:
        above = "" if high is None else f" and not {rate_text(high)}"
        held = f"at least {rate_text(low)} requests/s within the SLO{above}"
    else:
        held = (
            f"{rate_text(value)} requests/s within the SLO ({rate_text(low)} to {rate_text(high)})"
        )
    return ReplicaRate(rate, "model", f"one replica holds {held}, by the model of its engine")


def _measured(
    measured: MeasuredRate, note: str | None, contradiction: str | None = None
) -> ReplicaRate:
    tail = f"; {note}" if note else ""
    if measured.held is None:
        why = f"{measured.why}{tail}"
        return ReplicaRate(Estimate(value=None, reason=why), None, why, "", contradiction)
    high = None if measured.broken == inf else measured.broken
    rate = Estimate(
        value=None,
        low=measured.held,
        high=high,
        reason="between the highest rate shown to hold and the lowest shown not to",
    )
    bound = "at least " if high is None else ""
    return ReplicaRate(
        rate,
        "measured",
        f"one replica holds {bound}{measured.held:g} requests/s within the SLO",
        "; ".join(filter(None, (measured.why, contradiction))),
        contradiction,
    )


def _contradiction(measured: MeasuredRate, model: Estimate) -> str | None:
    """Where a measured load falls outside the model's interval; None where none does."""
    assert model.low is not None
    if measured.broken <= model.low:
        return (
            f"the model says that {measured.broken:g} requests/s are held (up to "
            f"{rate_text(model.low)}), the measurement says they are not; the measurement counts"
        )
    if measured.held is not None and model.high is not None and measured.held > model.high:
        return (
            f"the model says that {measured.held:g} requests/s are not held (over "
            f"{rate_text(model.high)}), the measurement says they are; the measurement counts"
        )
    return None
