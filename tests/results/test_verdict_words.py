"""The sentences of verdicts and objectives."""

from __future__ import annotations

from typing import Literal

import pytest

from results.decision.objective_words import writer
from results.decision.objectives import ObjectiveSpec
from results.decision.sentences import objective_sentence, overall, together
from results.summary import Decision, Estimate, Judged, Outcome


@pytest.mark.parametrize(
    ("decisions", "passing", "sentence"),
    [
        (
            {},
            [],
            "Nothing is asked of any variant, so nothing is decided: write slo, "
            "quality or budget into the experiment.",
        ),
        ({"base": "SHIP"}, ["base"], "Keep base: it meets every objective."),
        (
            {"base": "SHIP", "b": "DON'T SHIP"},
            ["base"],
            "Keep base: it meets every objective, and no other variant is shown to.",
        ),
        (
            {"base": "SHIP", "b": "SHIP", "c": "SHIP"},
            ["base", "b", "c"],
            "Keep base: it meets every objective with the best quality (90.0 %); "
            "b and c would pass too (80.0 % and not known).",
        ),
        (
            {"base": "SHIP", "b": "SHIP"},
            ["b", "base"],
            "Ship b: it meets every objective (base would pass too).",
        ),
        ({"b": "SHIP"}, ["b"], "Ship b: it meets every objective."),
        (
            {"base": "DON'T SHIP", "b": "INCONCLUSIVE"},
            [],
            "No variant may ship yet; not settled: b.",
        ),
        ({"b": "DON'T SHIP"}, [], "No variant may ship: b breaks an objective."),
        (
            {"base": "DON'T SHIP", "b": "DON'T SHIP"},
            [],
            "No variant may ship: base and b break an objective.",
        ),
    ],
)
def test_the_first_line_says_what_the_decisions_are(
    decisions: dict[str, Decision], passing: list[str], sentence: str
) -> None:
    assert overall("base", decisions, passing, {"base": 0.9, "b": 0.8, "c": None}) == sentence


@pytest.mark.parametrize(
    ("passing", "gainless", "sentence"),
    [
        (
            ["base", "b"],
            ["b"],
            "Keep base: it meets every objective; b would pass too, but is shown to be slower or "
            "dearer, and better in nothing.",
        ),
        (
            ["base", "b", "c", "d"],
            ["b", "c"],
            "Keep base: it meets every objective with the best quality (90.0 %); d would pass too "
            "(70.0 %); b and c would pass too, but are shown to be slower or dearer, and better in "
            "nothing.",
        ),
        (
            ["d", "base", "b"],
            ["b"],
            "Ship d: it meets every objective (base and b would pass too).",
        ),
    ],
)
def test_the_first_line_says_why_a_variant_that_passes_is_not_to_ship(
    passing: list[str], gainless: list[str], sentence: str
) -> None:
    quality = {"base": 0.9, "b": 0.9, "c": 0.9, "d": 0.7}
    assert overall("base", dict.fromkeys(passing, "SHIP"), passing, quality, gainless) == sentence


@pytest.mark.parametrize(
    ("better", "outcome", "said"),
    [
        ("lower", "holds", "is 300 ms and keeps its limit (500 ms); at most 350 ms"),
        ("lower", "fails", "is 300 ms and breaks its limit (500 ms); at least 250 ms"),
        ("higher", "holds", "is 300 ms and keeps its limit (500 ms); at least 350 ms"),
        ("higher", "fails", "is 300 ms and breaks its limit (500 ms); at most 250 ms"),
    ],
)
def test_a_settled_objective_names_the_bound_that_decided_it(
    better: Literal["lower", "higher"], outcome: Outcome, said: str
) -> None:
    asked = ObjectiveSpec(
        "latency_p95", "slo", "latency_p95", "latency p95", "ms", better, 500.0, "500ms"
    )
    judged = Judged(
        value=Estimate(value=300.0, n=9), limit=500.0, pessimistic=350.0, optimistic=250.0
    )
    assert said in objective_sentence(asked, judged, outcome, None)


@pytest.mark.parametrize(
    ("kind", "metric", "written"),
    [
        ("quality", "quality_change", "+2.0 points"),
        ("quality", "probe:general", "+2.0 points"),
        ("quality", "quality", "2.0 %"),
        ("slo", "error_rate", "2.0 %"),
        ("budget", "cost_increase", "+2.0 %"),
        ("budget", "cost_per_month", "2.0 %"),
    ],
)
def test_changes_of_quality_are_written_in_points_and_of_cost_in_per_cent(
    kind: Literal["slo", "quality", "budget"], metric: str, written: str
) -> None:
    asked = ObjectiveSpec(metric, kind, metric, "m", "share", "lower", 0.1, "10%")
    assert writer(asked)(0.02, 0) == written


def test_what_can_not_be_judged_for_one_reason_is_said_once() -> None:
    why = "can't be judged: it is not known whether the server kept up"
    assert together(
        [f"latency p50 (limit: 1.00 s) {why}", "quality is 21.2 % and breaks its limit",
         f"error rate (limit: 5.0 %) {why}", f"cost per month (limit: $500 a month) {why}",
         "TTFT p95 (limit: 2.00 s) can't be judged: p95 needs at least 200 requests"]
    ) == [
        "latency p50 (limit: 1.00 s), error rate (limit: 5.0 %) and cost per month (limit: $500 a "
        "month) can't be judged: it is not known whether the server kept up",
        "quality is 21.2 % and breaks its limit",
        "TTFT p95 (limit: 2.00 s) can't be judged: p95 needs at least 200 requests",
    ]  # fmt: skip
