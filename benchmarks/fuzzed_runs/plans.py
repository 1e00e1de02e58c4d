"""Checks of a capacity plan: rates, replicas and their sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import ceil

from benchmarks.fuzzed_runs.files import Json
from benchmarks.fuzzed_runs.objectives import RATES


def check_plan(plan: Json, summary: Json, experiment: Json) -> Iterator[str]:
    """Faults in the rates, replicas and sentences of `plan.json`."""
    rates = {stage["name"]: stage.get("rate") for stage in experiment["workload"]["stages"]}
    for variant in plan["variants"]:
        rate, text = variant["rate_per_replica"], f"{variant['variant']}: {variant['sentence']}"
        stages = next(
            v["stages"] for v in summary["variants"] if v["variant"] == variant["variant"]
        )
        if rate is None:
            if variant["replicas"] is not None or variant["cost_per_month"] is not None:
                yield f"replicas without a rate: {text}"
            continue
        if rate != variant["rate"]["low"] or (variant["rate"]["high"] or rate) < rate:
            yield f"not the lower end of the interval: {text}"
        if variant["source"] == "measured":
            yield from _measured_faults(rate, stages, rates, experiment, text)
        peak, price = variant["peak"] or {}, (experiment.get("budget") or {}).get("price", {})
        if peak.get("replicas") != variant["replicas"]:
            yield f"another number of replicas for the peak: {text}"
        hour = float(price.get("accelerator_hour", "$0").removeprefix("$"))
        if hour and not _near(
            variant["cost_per_month"],
            variant["replicas"] * price.get("accelerators", 1) * hour * 730,
        ):
            yield f"another cost: {text}"
        if (
            variant["replicas"]
            != ceil(round(plan["peak_rate"] / (rate * (1 - plan["headroom"])), 9)) + plan["spare"]
        ):
            yield f"another number of replicas: {text}"
        if (
            not (match := re.search(r"need ([\d,]+) replicas?", text))
            or int(match[1].replace(",", "")) != variant["replicas"]
        ):
            yield f"another number of replicas is said: {text}"
        if ("at least" in text.partition(";")[0]) != variant["lower_bound"]:
            yield f"at least: {text}"
        broken = re.search(r"at ([\d.]+) requests/s it breaks the SLO", text)
        if broken and not any(s["offered_rate"] == float(broken[1]) and _breaks(s) for s in stages):
            yield f"it does not break it: {text}"


def _measured_faults(
    rate: float, stages: list[Json], rates: dict[str, float | None], experiment: Json, text: str
) -> Iterator[str]:
    """Faults of a rate that was measured: a stage of even arrivals must have held it."""
    at = [s for s in stages if s["offered_rate"] == rate]
    if (
        not at
        or rates[at[0]["stage"]] is None
        or at[0]["held"] is not True
        or at[0]["validity"]["level"] == "INVALID"
    ):
        yield f"no stage held that rate: {text}"
    if any(
        "bursts" in stage
        for stage in experiment["workload"]["stages"]
        if stage["name"] in {s["stage"] for s in at}
    ):
        yield f"bursts are no rate: {text}"


def _near(ours: float | None, theirs: float) -> bool:
    return ours is not None and abs(ours / theirs - 1) < 1e-9


def _breaks(stage: Json) -> bool:
    """True if an SLO's value is beyond its limit. A plan asks nothing of floors under rates."""
    values = [
        (judged["value"]["value"], judged["limit"])
        for metric, judged in stage["judged"].items()
        if metric not in RATES
    ]
    return any(value is not None and limit is not None and value > limit for value, limit in values)
