"""Checks of objectives: outcomes and their sentences against values and journals."""

from __future__ import annotations

import re
from collections.abc import Iterator

from benchmarks.fuzzed_runs.facts import Facts
from benchmarks.fuzzed_runs.files import NEAR, Json
from benchmarks.fuzzed_runs.sentences import Claim, parse_claim

ROUNDED = 6e-3
"""A number of three digits is off by less than this share."""
RATES = ("goodput", "requests_per_s", "output_tokens_per_s", "total_tokens_per_s")
"""Metrics whose SLO is a lower limit."""


def check_objectives(verdict: Json, at: Facts, experiment: Json) -> Iterator[str]:
    """Faults in the outcomes and sentences of a variant's objectives."""
    for objective in verdict["objectives"]:
        value, limit, outcome, label = (
            objective["value"]["value"],
            objective["limit"],
            objective["outcome"],
            objective["label"],
        )
        if outcome != "unsettled":
            if value is None or limit is None:
                yield f"{label} {outcome} without a value"
                continue
            if (_beyond(objective, value) > 0) == (outcome == "holds"):
                yield f"{label} {outcome}, and its value {value} says the opposite of {limit}"
            yield from _own_value(objective, at, experiment)
        try:
            claim = parse_claim(objective["sentence"])
        except ValueError as error:
            yield str(error)
            continue
        yield from (f"{each}: {objective['sentence']}" for each in _claim(claim, objective))
        yield from (f"{each}: {objective['sentence']}" for each in _more(objective))


def _is_floor(objective: Json) -> bool:
    return objective["kind"] == "quality" or objective["metric"] in RATES


def _beyond(objective: Json, value: float) -> float:
    """How far a value is on the wrong side of the limit."""
    floor = _is_floor(objective)
    return float(objective["limit"] - value if floor else value - objective["limit"])


def _own_value(objective: Json, at: Facts, experiment: Json) -> Iterator[str]:
    """Compares an SLO in ms with the journals: it holds without failures, or fails with them."""
    metric, _, statistic = objective["metric"].rpartition("_")
    if metric not in ("latency", "service_latency", "ttft") or not experiment["slo"][
        objective["metric"]
    ].endswith("ms"):
        return
    fails = objective["outcome"] == "fails"
    own = at.statistic(metric, statistic, fails)
    if own is None or (
        (_beyond(objective, own) > NEAR * own) != fails
        and abs(_beyond(objective, own)) > NEAR * own
    ):
        yield (
            f"{objective['label']} {objective['outcome']} at {objective['limit']}, "
            f"and is {own} by the journals"
        )


def _claim(claim: Claim | None, objective: Json) -> Iterator[str]:
    value, limit, outcome = objective["value"]["value"], objective["limit"], objective["outcome"]
    if claim is None:
        if outcome != "unsettled":
            yield "can't be judged, and was"
        return
    floor = _is_floor(objective)
    ends = [
        end for end in (objective["value"]["low"], objective["value"]["high"]) if end is not None
    ]
    if (
        value is None
        or not _like(claim.value, value)
        or claim.limit is None
        or not _like(claim.limit, limit)
    ):
        yield f"another value or limit than {value} and {limit}"
    elif (claim.value > claim.limit) - (claim.value < claim.limit) != (value > limit) - (
        value < limit
    ) and abs(value - limit) > 1e-12:
        yield "value and limit are not shown in the order that they have"
    elif outcome == "unsettled":
        if claim.verb != "open" or not all(
            any(_like(bound, end) for end in ends) for bound in claim.bounds
        ):
            yield f"the data allow {ends}"
        elif len(claim.bounds) == 2 and not claim.bounds[0] <= claim.limit <= claim.bounds[1]:
            yield "the limit is not within what the data allow"
    else:
        keeps = outcome == "holds"
        edge = "at most" if keeps != floor else "at least"
        if claim.verb != ("keeps" if keeps else "breaks") or claim.edge != edge:
            yield f"it {outcome}"
        [bound] = claim.bounds
        if not any(_like(bound, end) for end in ends):
            yield f"the bounds are {ends}"
        if (bound > claim.limit if keeps != floor else bound < claim.limit) and not abs(
            bound - claim.limit
        ) <= 1e-12:
            yield "the bound is shown on the wrong side of the limit"


def _more(objective: Json) -> Iterator[str]:
    """What is said to settle it is what was worked out, and near its limit is near."""
    text, more, value = objective["sentence"], objective["more"], objective["value"]
    hopeless = "even 20 times as much data would hardly settle it" in text
    if hopeless != (more is not None and more["total"] is None) or (
        more is not None and objective["outcome"] != "unsettled"
    ):
        yield f"what would settle it is {more}"
    if hopeless:
        off = abs(value["value"] - objective["limit"])
        ends = [
            abs(end - value["value"]) for end in (value["low"], value["high"]) if end is not None
        ]
        if not any(end > 2 * off for end in ends):
            yield "it is not near its limit"
    if (
        match := re.search(r"about ([\d,]+) (prompts instead|requests)", text)
    ) and more is not None:
        amount, total = int(match[1].replace(",", "")), more["total"]
        if amount < total or (match[2].startswith("prompts") and amount != total):
            yield f"what would settle it is {more}"


def _like(amount: float, value: float) -> bool:
    """Per cent over ten have no decimals."""
    return abs(amount - value) <= max(
        ROUNDED * abs(value), 6e-3 if 0.09 < abs(value) < 10 else 6e-4 if abs(value) < 0.1 else 0.0
    )
