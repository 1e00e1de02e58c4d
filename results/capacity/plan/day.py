"""Replicas that follow the traffic of a day, up before the traffic comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from results.capacity.plan.capacity_plan import HOURS_PER_MONTH, DayPart, DayPlan, Fleet
from results.capacity.plan.fleet import ReplicaPrice


def day_plan(
    rates: Sequence[float],
    day_hours: float,
    startup_s: float,
    fleet_for: Callable[[float], Fleet],
    price: ReplicaPrice,
) -> DayPlan:
    """The replicas for each of `rates` (requests/s), equal parts of a day of `day_hours`.

    The day repeats. A replica for a part starts `startup_s` before it, and costs from then on.
    """
    part = day_hours / len(rates)
    fleets = [fleet_for(rate) for rate in rates]
    needed = [fleet.replicas for fleet in fleets]
    running, hours = _running(needed, part, startup_s / 3600)
    parts = [
        DayPart(begins=i * part, hours=part, fleet=fleet, running=most)
        for i, (fleet, most) in enumerate(zip(fleets, running, strict=True))
    ]
    constant = max(needed) * day_hours
    monthly = HOURS_PER_MONTH / day_hours
    mean = sum(rates) / len(rates)
    cost, constant_cost = (
        None if hourly is None else hourly * day_hours * monthly
        for hourly in (
            price.per_hour(hours / day_hours, mean),
            price.per_hour(constant / day_hours, mean),
        )
    )
    return DayPlan(
        parts=parts,
        replica_hours=hours,
        constant_hours=constant,
        cost_per_month=cost,
        constant_cost=constant_cost,
    )


def _running(needed: Sequence[int], part: float, startup: float) -> tuple[list[int], float]:
    """The most replicas that run in each part, and the replica-hours of the day.

    At any moment as many run as the next `startup` hours need.
    """
    count = len(needed)
    ahead, rest = divmod(startup / part, 1)
    reach = min(int(ahead), count)

    def most(first: int, parts: int) -> int:
        return max(needed[(first + i) % count] for i in range(min(parts, count)))

    early = [most(i, reach + 1) for i in range(count)]
    late = [most(i, reach + 2) if rest > 0 else early[i] for i in range(count)]
    hours = sum(
        part * ((1 - rest) * before + rest * after)
        for before, after in zip(early, late, strict=True)
    )
    return late, hours
