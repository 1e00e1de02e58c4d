"""Checks of the fleets over a day: counted moment by moment, without the product's formulas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from math import ceil
from pathlib import Path

from benchmarks.fuzzed_runs.files import NEAR, Json

_SECONDS = {"s": 1.0, "h": 3600.0}
MONTH_HOURS = 730


def replicas_for(traffic: float, held: float, plan: Json) -> int:
    """Whole replicas for `traffic` requests/s and its bursts, with headroom and spare."""
    used = held * (1 - plan["headroom"])
    return ceil(round(traffic * plan["burst"] / used, 9)) + int(plan["spare"])


def check_day(plan: Json, variant: Json, section: Json, run: Path) -> Iterator[str]:
    """Faults in the replicas that follow the day. `section`: of the experiment."""
    day, held = variant["day"], variant["rate_per_replica"]
    if "day" not in section and "trace" not in section:
        if day is not None:
            yield "a day that nobody wrote"
        return
    parts = day["parts"]
    traffic = [part["fleet"]["rate"] for part in parts]
    hours = sum(part["hours"] for part in parts)
    if "day" in section and (
        traffic != section["day"] or abs(hours - section.get("day_hours", 24)) > NEAR * hours
    ):
        yield f"another day: {traffic} over {hours} h"
    if "trace" in section:
        yield from _trace_faults(run / section["trace"], traffic, hours)
    needed = [replicas_for(rate, held, plan) for rate in traffic]
    if [part["fleet"]["replicas"] for part in parts] != needed:
        yield f"{needed} replicas are needed"
    startup = section.get("startup", "0s")
    ahead = float(startup[:-1]) * _SECONDS[startup[-1]] / 3600
    used = _hours(needed, hours, ahead)
    if abs(day["replica_hours"] - used) > NEAR * used:
        yield f"{used} replica-hours, not {day['replica_hours']}"
    if abs(day["constant_hours"] - max(needed) * hours) > NEAR * day["constant_hours"]:
        yield f"{max(needed) * hours} hours of a constant fleet, not {day['constant_hours']}"
    peak = variant["peak"]
    if plan["price_hour"] is not None and peak["cost_per_hour"] is not None:
        month = used / hours * MONTH_HOURS * peak["cost_per_hour"] / peak["replicas"]
        if abs(day["cost_per_month"] - month) > NEAR * month:
            yield f"the day costs {month} a month, not {day['cost_per_month']}"


def _hours(needed: list[int], hours: float, ahead: float) -> float:
    """Replica-hours, where at any moment as many run as the next `ahead` hours need."""
    part = hours / len(needed)
    edges = {i * part for i in range(len(needed) + 1)}
    edges |= {(edge - ahead) % hours for edge in edges}
    moments = sorted(edges)
    total = 0.0
    for begin, end in pairwise(moments):
        if end - begin < 1e-9 * hours:
            continue
        at = (begin + end) / 2
        first, last = int(at / part), int((at + min(ahead, hours)) / part)
        total += (end - begin) * max(needed[i % len(needed)] for i in range(first, last + 1))
    return total


def _trace_faults(file: Path, traffic: list[float], hours: float) -> Iterator[str]:
    """Faults in the busiest minutes of a recording."""
    times = [json.loads(line)["at"] for line in file.read_text().splitlines()]
    begin, seconds = times[0], times[-1] - times[0]
    if abs(hours * 3600 - seconds) > NEAR * seconds:
        yield f"the recording lasts {seconds} s, not {hours * 3600}"
    part = seconds / len(traffic)
    window = min(60.0, part)
    most = [0] * len(traffic)
    for at in times:
        place = min(int((at - begin) / part), len(traffic) - 1)
        most[place] = max(most[place], sum(at <= other < at + window for other in times))
    rates = [count / window for count in most]
    if any(abs(a - b) > NEAR * max(a, b) for a, b in zip(rates, traffic, strict=True)):
        yield f"the busiest minutes are {rates}, not {traffic}"
