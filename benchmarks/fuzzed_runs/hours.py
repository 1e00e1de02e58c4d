"""Checks of rates and of costs by the hour: sums over windows, by hand, from the journals."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.fuzzed_runs.facts import Facts, RunFacts
from benchmarks.fuzzed_runs.files import NEAR, Json

TOKEN_PRICES = tuple(
    f"{side}_per_{unit}" for side in ("input", "output") for unit in ("token", "million")
)


def accelerators_of(price: Json, record: Json) -> int:
    """Those of one replica: as the price says, else the server's own, else one."""
    return int(price.get("accelerators") or record.get("accelerators") or 1)


def check_hours(
    summary: Json, facts: RunFacts, experiment: Json, records: dict[str, Json]
) -> Iterator[str]:
    """Faults in rates, replicas and costs by the hour. `records`: the run's variants by name."""
    budget = experiment.get("budget") or {}
    for variant in summary["variants"]:
        name = variant["variant"]
        for stage in variant["stages"]:
            where, at = f"{name}, {stage['stage']}", facts[name, stage["stage"]]
            yield from (f"{where}: {each}" for each in _rates(stage, at))
            yield from (f"{where}: {each}" for each in _replicas(stage, at))
        at = facts.get((name, variant["judged_stage"]), Facts())
        yield from (f"{name}: {each}" for each in _cost(variant, at, budget, records[name]))


def _rates(stage: Json, at: Facts) -> Iterator[str]:
    reported = stage["metrics"]["requests_per_s"]["value"]
    if not at.completed or at.seconds <= 0:
        return
    actual = at.completed / at.seconds
    if reported is None or abs(reported - actual) > NEAR * actual:
        yield f"{actual} answers a second, not {reported}"


def _replicas(stage: Json, at: Facts) -> Iterator[str]:
    counts = {block.replicas for block in at.blocks}
    if len(counts) > 1:
        if stage["validity"]["level"] != "INVALID":
            yield f"blocks of {sorted(counts)} replicas are {stage['validity']['level']}"
    elif {stage["replicas"]} != counts:
        yield f"{counts} replicas, not {stage['replicas']}"


def _cost(variant: Json, at: Facts, budget: Json, record: Json) -> Iterator[str]:
    price = budget.get("price", {})
    reported = variant["metrics"]["cost_per_request"]["value"]
    if reported is None or any(key in price for key in TOKEN_PRICES):
        return
    hour = float(price["accelerator_hour"].lstrip("$"))
    actual = at.hourly(hour, accelerators_of(price, record))
    if actual is None or abs(reported - actual) > NEAR * actual:
        yield f"cost per request is {actual}, not {reported}"
    month = variant["metrics"]["cost_per_month"]["value"]
    if requests := budget.get("requests_per_month"):
        many = {"1k": 1e3, "1M": 1e6, "1000M": 1e9}[requests]
        if month is None or actual is None or abs(month - actual * many) > NEAR * month:
            yield f"{requests} requests cost {(actual or 0.0) * many}, not {month}"
