"""Checks of a capacity plan: rates of one replica, fleets, costs and their sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from benchmarks.fuzzed_runs.days import check_day, replicas_for
from benchmarks.fuzzed_runs.files import Json, read_json
from benchmarks.fuzzed_runs.hours import TOKEN_PRICES, accelerators_of
from benchmarks.fuzzed_runs.objectives import RATES


def check_plan(
    run: Path, plan: Json, summary: Json, experiment: Json, records: dict[str, Json]
) -> Iterator[str]:
    """Faults in the rates, replicas and sentences of `plan.json`. `records`: variants by name."""
    for variant in plan["variants"]:
        name, text = variant["variant"], f"{variant['variant']}: {variant['sentence']}"
        stages = next(v["stages"] for v in summary["variants"] if v["variant"] == name)
        if variant["rate_per_replica"] is None:
            if variant["replicas"] is not None or variant["cost_per_month"] is not None:
                yield f"replicas without a rate: {text}"
            continue
        if variant["peak"] is None:
            yield f"a rate without replicas for the peak: {text}"
            continue
        yield from (f"{each}: {text}" for each in _rate_faults(run, variant, stages, experiment))
        yield from (f"{each}: {text}" for each in _fleet_faults(plan, variant))
        yield from (
            f"{each}: {text}" for each in _cost_faults(plan, variant, experiment, records[name])
        )
        yield from (f"{each}: {text}" for each in check_day(plan, variant, experiment["plan"], run))
        broken = re.search(r"at ([\d.]+) requests/s it breaks the SLO", text)
        if broken and not any(
            f"{s['offered_rate'] / s['replicas']:g}" == broken[1] and _breaks(s)
            for s in stages
            if s["offered_rate"] is not None
        ):
            yield f"it does not break it: {text}"
    yield from _recommended_faults(plan)


def _rate_faults(run: Path, variant: Json, stages: list[Json], experiment: Json) -> Iterator[str]:
    """Faults in what one replica holds."""
    rate, high = variant["rate_per_replica"], variant["rate"]["high"]
    if rate != variant["rate"]["low"] or (high or rate) < rate:
        yield "not the lower end of the interval"
    if (high is None) != variant["lower_bound"]:
        yield f"a lower bound, and it ends at {high}"
    if variant["source"] == "measured":
        yield from _measured_faults(rate, stages, experiment)
    searched = run / "search.json"
    if variant["source"] == "search":
        record = next(
            v for v in read_json(searched)["variants"] if v["variant"] == variant["variant"]
        )
        ends = [
            None if record[end] is None else record[end] / record["replicas"]
            for end in ("holds", "fails")
        ]
        if ends != [rate, high]:
            yield f"the search found {ends} of one replica, not {[rate, high]}"


def _measured_faults(rate: float, stages: list[Json], experiment: Json) -> Iterator[str]:
    """Faults of a rate that was measured: a stage of even arrivals must have held it."""
    offered = {stage["name"]: stage.get("rate") for stage in experiment["workload"]["stages"]}
    at = [s for s in stages if s["offered_rate"] and s["offered_rate"] / s["replicas"] == rate]
    if (
        not at
        or offered[at[0]["stage"]] is None
        or at[0]["held"] is not True
        or at[0]["validity"]["level"] == "INVALID"
    ):
        yield "no stage held that rate"
    if any(
        "bursts" in stage
        for stage in experiment["workload"]["stages"]
        if stage["name"] in {s["stage"] for s in at}
    ):
        yield "bursts are no rate"


def _fleet_faults(plan: Json, variant: Json) -> Iterator[str]:
    """Faults in the replicas for the peak and for the mean."""
    text, held = variant["sentence"], variant["rate_per_replica"]
    needed = replicas_for(plan["peak_rate"], held, plan)
    if variant["replicas"] != needed or variant["peak"]["replicas"] != needed:
        yield f"{needed} replicas are needed, not {variant['replicas']}"
    match = re.search(r"need ([\d,]+) replicas?", text)
    if not match or int(match[1].replace(",", "")) != variant["replicas"]:
        yield "another number of replicas is said"
    if ("at least" in text.partition(";")[0]) != variant["lower_bound"]:
        yield "at least"
    if (mean := variant["mean"]) is not None:
        if mean["rate"] != plan["mean_rate"]:
            yield f"the mean is {plan['mean_rate']}, not {mean['rate']}"
        if mean["replicas"] != replicas_for(mean["rate"], held, plan):
            yield f"another number of replicas for the mean, {mean['replicas']}"
    for fleet in filter(None, (variant["peak"], variant["mean"])):
        ends = [fleet[key] for key in ("fewest", "likely", "replicas") if fleet[key] is not None]
        if ends != sorted(ends):
            yield f"fewest, likely and rented are {ends}"


def _cost_faults(plan: Json, variant: Json, experiment: Json, record: Json) -> Iterator[str]:
    """Faults in the cost of a month: of rented replicas, or of the mean traffic's tokens."""
    price = (experiment.get("budget") or {}).get("price", {})
    hour = float(price.get("accelerator_hour", "$0").removeprefix("$"))
    own = accelerators_of(price, record)
    if variant["peak"]["accelerators"] != variant["replicas"] * own:
        yield f"{own} accelerators a replica, not {variant['peak']['accelerators']} in all"
    if hour and not _near(variant["cost_per_month"], variant["replicas"] * own * hour * 730):
        yield "another cost"
    is_free = not hour and not any(key in price for key in TOKEN_PRICES)
    if is_free and variant["cost_per_month"] is not None:
        yield "a cost without a price"
    if plan["price_hour"] is not None and not _near(plan["price_hour"], hour):
        yield f"an hour costs {hour}, not {plan['price_hour']}"


def _recommended_faults(plan: Json) -> Iterator[str]:
    """Faults in the choice: no variant whose quality is as settled may cost less."""
    chosen = next((v for v in plan["variants"] if v["variant"] == plan["recommended"]), None)
    able = [v for v in plan["variants"] if v["peak"] and v["quality_floor"] != "fails"]
    if (chosen is None) != (not able):
        yield f"recommends {plan['recommended']}, and {[v['variant'] for v in able]} would do"
        return
    for each in able:
        assert chosen is not None
        open_ = [v["quality_floor"] == "unsettled" for v in (each, chosen)]
        costs = [v["cost_per_month"] for v in (each, chosen)]
        if chosen not in able or open_[0] < open_[1]:
            yield f"{each['variant']} keeps the quality, and {chosen['variant']} is recommended"
        elif open_[0] == open_[1] and None not in costs and costs[0] < costs[1] * (1 - 1e-9):
            yield f"{each['variant']} is cheaper than {chosen['variant']}"


def _near(ours: float | None, theirs: float) -> bool:
    return ours is not None and abs(ours - theirs) <= 1e-9 * abs(theirs)


def _breaks(stage: Json) -> bool:
    """True if an SLO's value is beyond its limit. A plan asks nothing of floors under rates."""
    values = [
        (judged["value"]["value"], judged["limit"])
        for metric, judged in stage["judged"].items()
        if metric not in RATES
    ]
    return any(value is not None and limit is not None and value > limit for value, limit in values)
