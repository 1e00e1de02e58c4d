"""What models say that one replica holds, and the requests that what-ifs ask of."""

from __future__ import annotations

import numpy as np
import pytest

from foundation.errors import BadInput
from results.capacity.demand.demand import Demand
from results.capacity.model.engine_model import (
    EngineModel,
    FrontEnd,
    LoadRange,
    Scheduler,
    StepTime,
)
from results.capacity.plan.changed_demand import changed_demands
from results.capacity.plan.measured_rate import absolute_slo
from results.capacity.plan.modelled_rates import SEED, modelled_rate
from results.capacity.plan.questions import parse_question
from results.capacity.simulation.held_rate import held_rate

FAR = LoadRange(1e6, 1e6, 1e6, 1e6, 1e6)


def model(error: float = 0.02, fitted: LoadRange = FAR) -> EngineModel:
    """One request at a time, 10 ms for each of its prompt's tokens: a queue with one server."""
    draws = np.zeros((40, 5))
    draws[:, 2] = 0.01 * np.exp(error * np.random.default_rng(1).standard_normal(40))
    scheduler = Scheduler(max_num_seqs=1)
    return EngineModel(StepTime(0, 0, 0.01), FrontEnd(), scheduler, fitted, "engine record", draws)


def demand(tokens: int = 10, answers: int = 1) -> Demand:
    ones = np.ones(300, np.int64)
    return Demand.of(np.arange(300.0), tokens * ones, answers * ones)


def test_the_rate_of_a_queue_with_known_service_is_that_of_the_closed_form() -> None:
    """M/D/1 with service of 0.1 s: a mean of 0.15 s is reached at a load of one half, 5 a second.

    Pollaczek and Khinchine: 0.1 + 0.1 x load / (2 (1 - load)) = 0.15.
    """
    rate = modelled_rate(model(), demand(), {"latency_mean": 150.0})
    assert rate.rate.value == pytest.approx(5.0, rel=0.05)
    assert rate.rate.low is not None
    assert rate.rate.high is not None
    assert rate.rate.low < 5.0 < rate.rate.high
    assert rate.curve is not None
    means = rate.curve.metrics["latency_mean"].value
    loads = np.array(rate.curve.rates) / 10
    expected = 100 + 100 * loads / (2 * (1 - loads))
    assert np.array(means, float) == pytest.approx(expected, rel=0.05)


def test_a_limit_under_the_unloaded_latency_is_held_by_no_number_of_replicas() -> None:
    rate = modelled_rate(model(), demand(), {"latency_mean": 99.0})
    assert rate.rate.value is None
    assert "no number of replicas can hold the slo" in (rate.rate.reason or "")
    assert "latency_mean of requests that are alone is 100 ms" in (rate.rate.reason or "")


def test_beyond_its_reach_a_model_gives_a_lower_bound_and_says_so() -> None:
    near = LoadRange(1e6, 1e6, 1e6, 1e6, rate=2.0)
    rate = modelled_rate(model(fitted=near), demand(), {"latency_mean": 150.0, "error_rate": 0.1})
    assert rate.rate.high is None
    assert rate.rate.low == pytest.approx(3.0, rel=0.01)  # 1.5 times 2
    assert any("beyond the model's reach" in note for note in rate.notes)
    assert any("the model knows nothing of error_rate" in note for note in rate.notes)
    assert rate.curve is not None
    assert max(rate.curve.rates) <= 3.0


def test_without_draws_there_is_no_interval_and_the_reason_is_said() -> None:
    held = held_rate(
        EngineModel(
            StepTime(0, 0, 0.01), FrontEnd(), Scheduler(max_num_seqs=1), FAR, "engine record"
        ),
        demand(),
        absolute_slo({"latency_mean": 150.0}),
        SEED,
    )
    assert (held.low, held.high) == (None, None)
    assert "no interval" in (held.reason or "")


def lengths(name: str, text: str) -> tuple[list[int], list[int]]:
    demands = {"long": demand(100, 4), "short": demand(20, 6), "none": "nothing was measured"}
    styles = {"long": "wordy", "short": "terse", "none": "wordy"}
    changed = changed_demands(demands, styles, parse_question(text))
    assert changed["none"] == "nothing was measured"
    each = changed[name]
    assert isinstance(each, Demand)
    return sorted(set(each.input_tokens.tolist())), sorted(set(each.output_tokens.tolist()))


def test_lengths_change_as_asked_and_stay_whole() -> None:
    assert lengths("long", "output_tokens*0.5") == ([100], [2])
    assert lengths("long", "output_tokens*0.01, input_tokens=7") == ([7], [1])
    assert lengths("short", "input_tokens*1.5") == ([30], [6])


def test_another_prompt_brings_its_input_and_keeps_the_variants_answers() -> None:
    assert lengths("long", "prompt=terse") == ([20], [4])
    assert lengths("short", "prompt=terse") == ([20], [6])
    assert lengths("long", "prompt=terse, output_tokens*2") == ([20], [8])
    with pytest.raises(BadInput, match="no variant was measured with the prompt 'ters'"):
        lengths("long", "prompt=ters")
