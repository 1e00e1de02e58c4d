"""How often an objective at its limit is decided; `make bench-decision` has ten times the runs."""

from __future__ import annotations

from functools import cache

import pytest

from benchmarks.decision.cases import at_the_limit, inside_the_limit
from benchmarks.decision.objectives import Case
from results.metrics import keys

RUNS = 300
NOMINAL = 0.05 + 0.025  # two standard errors of 300 runs

CHOSEN = (
    ("latency mean", "lognormal, sigma 1", "10 blocks of 50"),
    ("latency mean", "lognormal, sigma 0.5, blocks differ by 30 %", "3 blocks of 60"),
    ("latency p95", "autocorrelation 0.5", "1 block of 500"),
    (
        "latency mean relative to the baseline",
        "lognormal, sigma 1 against lognormal, sigma 0.3",
        "10 blocks of 50",
    ),
    ("error rate", "10 %, in bursts (correlation 0.05)", "10 blocks of 60"),
    ("quality", "five grades", "50 prompts"),
    ("quality", "1, and one in thirty 0.1", "300 prompts"),
    ("quality against the baseline", "losses only", "300 prompts"),
    ("quality against the baseline", "small losses, few large ones", "60 prompts"),
    ("probe against the baseline", "losses only", "100 prompts"),
    ("cost per month, self-hosted", "Poisson", "2 blocks of 100"),
    ("goodput", "95 % keep it; even arrivals", "5 blocks of 60"),
    ("requests per s", "Poisson", "10 blocks of 60"),
    ("cost per month, metered", "lognormal, sigma 1", "10 blocks of 60, 60 prompts"),
    ("cost increase, metered", "lognormal, sigma 1, length by prompt", "60 prompts"),
    ("cost increase, metered", "lognormal, sigma 1.5 against 0.3", "60 prompts"),
)
INSIDE = range(4, 9)


@cache
def limits() -> dict[tuple[str, str, str], Case]:
    """The rows by kind, shape and data. They take a second to make."""
    return {(case.kind, case.shape, case.data): case for case in at_the_limit()}


def test_the_chosen_rows_are_there() -> None:
    assert len(CHOSEN) == 16
    assert set(CHOSEN) <= limits().keys()


@pytest.mark.parametrize("row", CHOSEN, ids=": ".join)
def test_at_its_limit_an_objective_is_seldom_decided(row: tuple[str, str, str]) -> None:
    shares = limits()[row].outcomes(RUNS, seed=21)
    assert shares["holds"] <= NOMINAL
    assert shares["fails"] <= NOMINAL


@pytest.mark.parametrize("place", INSIDE)
def test_well_inside_its_limit_it_is_seen_to_hold(place: int) -> None:
    case = inside_the_limit()[place]
    assert case.power is not None
    assert case.outcomes(60, seed=22)["holds"] >= case.power - 0.1  # two standard errors of 60 runs


def test_every_kind_of_objective_has_a_row() -> None:
    kinds = {kind for kind, _, _ in limits()}
    times = {
        f"{name} {statistic}"
        for name in ("latency", "ttft", "tpot", "itl")
        for statistic in ("mean", "p95")
    }
    relative = {
        f"{name} relative to the baseline"
        for name in ("latency mean", "latency p50", "latency p95", "error rate", "goodput")
    }
    scores = {"quality", "quality against the baseline", "probe against the baseline"}
    costs = {
        f"cost {what}, {how}"
        for what in ("per month", "increase")
        for how in ("metered", "self-hosted")
    }
    counted = {metric.replace("_", " ") for metric in keys("slo", "share", "rate")}
    assert times | relative | scores | costs | counted <= kinds
