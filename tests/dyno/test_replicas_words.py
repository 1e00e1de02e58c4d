"""What `dyno improve` says of more replicas, where one replica's rate is known by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dyno.improve.measured_run import MeasuredRun
from dyno.improve.replicas import replicas_sentence, replicas_words
from foundation.run.layout import RunDirectory
from results.capacity.plan.modelled_rates import modelled_rate
from results.capacity.plan.replica_rate import ModelledRate
from results.decision.improvement.choice import nearest_first
from results.summary import Estimate
from tests.dyno.test_improve import SEEDS
from tests.results.test_modelled_rates import demand, model


def test_the_replicas_are_the_load_over_what_one_holds() -> None:
    """M/D/1 with service of 0.1 s keeps a mean of 0.15 s up to 5 a second: 12 take 2.4 of it."""
    held = modelled_rate(model(error=0.002), demand(), {"latency_mean": 150.0})
    assert held.rate.low == pytest.approx(5.0, rel=0.05)
    for offered, words in ((4.0, "so 1 holds the 4 that"), (12.0, "so 3 hold the 12 that")):
        sentence = replicas_sentence("tuned", offered, held)
        assert words in sentence
        assert f"one replica of tuned holds {held.rate.low:.3g} requests/s" in sentence


def test_the_lower_end_of_what_one_holds_counts() -> None:
    held = ModelledRate(Estimate(value=5.0, low=3.0, high=7.0))
    assert "holds 3 requests/s within the SLO, so 4 hold the 12 " in replicas_sentence(
        "a", 12, held
    )


def test_without_a_rate_the_reason_is_said() -> None:
    held = modelled_rate(model(), demand(), {"latency_mean": 99.0})
    assert "no number of replicas can hold the slo" in replicas_sentence("tuned", 4.0, held)
    none = ModelledRate(Estimate(value=None))
    assert replicas_sentence("tuned", 4.0, none) == "the model names no rate"
    assert replicas_sentence("tuned", 4.0, "it is cold") == "no model says (it is cold)"


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ("slo: {latency_p90: 400ms}", "no model says ("),
        ("quality: {scorer: exact_match, min: 0.9}", None),
    ],
)
def test_replicas_are_spoken_of_where_waiting_binds(
    tmp_path: Path, sections: str, words: str | None
) -> None:
    """The answers of the second run are wrong, which no replica mends."""
    answers = {"tuned": lambda i: "no"}
    run = replace(SEEDS, sections=sections, answers=answers).write(tmp_path / "run")
    measured = MeasuredRun.read(RunDirectory(run))
    [tuned] = nearest_first(measured.summary, measured.verdicts)
    said = replicas_words(measured, tuned)
    assert said is None if words is None else (said or "").startswith(words)
