"""Replicas for a load, what they cost, and the probability that they are too few."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log
from statistics import NormalDist

from results.capacity.plan.capacity_plan import HOURS_PER_MONTH, Fleet, RateSource
from results.config import PlanConfig, Price
from results.measures.cost import is_metered
from results.summary import Estimate

Z95 = 1.959964
"""Standard normal: 2.5 % lie above it."""


@dataclass(frozen=True)
class ReplicaPrice:
    """What a replica of `accelerators` costs: by the hour, or by the request where it is metered.

    None where there is no price.
    """

    accelerators: int = 1
    replica_hour: float | None = None
    request: float | None = None

    @staticmethod
    def of(
        price: Price | None,
        accelerator_hour: float | None,
        request: Estimate,
        servers_own: int | None = None,
    ) -> ReplicaPrice:
        """The price by the hour where there is one, else by the request where requests have one.

        `accelerator_hour`: a catalogue's price of the measured accelerator. `request`: the
        variant's measured cost per request. `servers_own`: the accelerators that its server has.
        """
        accelerators = price.accelerators_of(servers_own) if price else servers_own or 1
        hour = accelerator_hour
        if hour is None and price is not None:
            hour = price.accelerator_hour
        if hour is not None:
            return ReplicaPrice(accelerators, hour * accelerators)
        metered = price is not None and is_metered(price)
        return ReplicaPrice(accelerators, request=request.value if metered else None)

    def per_hour(self, replicas: float, rate: float) -> float | None:
        """Dollars an hour of so many replicas that serve `rate` requests/s."""
        if self.replica_hour is not None:
            return replicas * self.replica_hour
        return None if self.request is None else rate * 3600 * self.request


def replicas_for(rate: float, held: float, headroom: float, spare: int) -> int:
    """`ceil(rate / (held x (1 - headroom))) + spare`."""
    return ceil(round(rate / (held * (1 - headroom)), 9)) + spare


def fleet(
    traffic: float, rate: Estimate, source: RateSource, plan: PlanConfig, price: ReplicaPrice
) -> Fleet:
    """The replicas for `traffic` requests/s, bursts on top. `rate.low` must be there."""
    assert rate.low is not None
    offered = traffic * plan.burst
    replicas, likely, fewest = (
        None if held is None else replicas_for(offered, held, plan.headroom, plan.spare)
        for held in (rate.low, rate.value, rate.high)
    )
    assert replicas is not None
    hour = price.per_hour(replicas, traffic)
    return Fleet(
        rate=traffic,
        replicas=replicas,
        accelerators=replicas * price.accelerators,
        likely=likely,
        fewest=fewest,
        miss=miss(rate, source, offered / max(replicas - plan.spare, 1)),
        cost_per_hour=hour,
        cost_per_month=None if hour is None else hour * HOURS_PER_MONTH,
    )


def miss(rate: Estimate, source: RateSource, load: float) -> Estimate:
    """The probability that one replica does not hold `load` requests/s within the SLO.

    The logarithm of what it holds is taken as normal, with the interval's ends at 2.5 %. Without a
    value between both ends, a load up to `rate.low` is missed with at most 5 %, and of a higher one
    nothing is known.
    """
    if load <= 0:
        return Estimate(value=0.0, low=0.0, high=0.0)
    low, value, high = rate.low, rate.value, rate.high
    if source == "model" and low and value and high and low < value < high:
        end = low if load < value else high
        deviation = abs(log(end / value)) / Z95
        return Estimate(value=NormalDist().cdf(log(load / value) / deviation))
    if low is None or load > low:
        return Estimate(value=None, reason="the load is above the highest rate known to hold")
    why = "the lower end of the model" if source == "model" else "the measurement"
    return Estimate(value=None, low=0.0, high=0.05, reason=f"bounded by {why}")
