"""What the engine model expects of a change, where the answer can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pytest import approx

from dyno.improve.engine_expectations import changed_model, simulated_factor
from results.capacity.demand.demand import Demand
from results.capacity.model.engine_model import (
    EngineModel,
    FrontEnd,
    LoadRange,
    Scheduler,
    StepJump,
    StepTime,
)
from results.config import Slo
from results.decision.work import RequestWork
from tests.results.synthetic import inputs

MODEL = EngineModel(
    StepTime(fixed=0.01, per_decode=0.0, per_prefill_token=0.0),
    FrontEnd(),
    Scheduler(max_num_batched_tokens=200),
    LoadRange(10, 200, 300, 3000, 10),
    "engine record",
)
ALONE = Demand.of(np.arange(300.0), np.full(300, 100), np.full(300, 10))


@pytest.mark.parametrize(
    ("work", "metric", "factor"),
    [
        (RequestWork(decode=0.5, prefill=0.5), "latency_p90", 0.5),  # 10 steps of 5 ms
        (RequestWork(output=0.5), "latency_p90", 0.5),  # 5 steps of 10 ms
        (RequestWork(output=0.5), "ttft_mean", 1.0),
        (RequestWork(step_tokens=50), "ttft_mean", 2.0),  # a prompt takes two steps
        (RequestWork(step_tokens=50), "latency_mean", 1.1),
    ],
)
def test_requests_that_are_alone_take_their_steps(
    work: RequestWork, metric: str, factor: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    asked = inputs(tmp_path_factory.getbasetemp(), ["base"])
    assert asked.slo == Slo({})
    assert simulated_factor(MODEL, ALONE, work, metric, asked) == approx(factor)


def test_a_jump_and_free_tokens_stay_where_only_times_change() -> None:
    steps = replace(MODEL.steps, jump=StepJump(3, 1.5), free_tokens=6)
    changed = changed_model(replace(MODEL, steps=steps), RequestWork(decode=0.5))
    assert changed.steps == replace(steps, fixed=0.005)


def test_a_metric_that_no_simulation_has_is_not_expected(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    asked = inputs(tmp_path_factory.getbasetemp(), ["base"])
    assert simulated_factor(MODEL, ALONE, RequestWork(), "error_rate", asked) is None


def test_beyond_free_tokens_a_decoded_token_takes_the_time_of_decoding() -> None:
    """It is one of the tokens, too, and only the work of prompts stays as it was."""
    steps = StepTime(fixed=0.01, per_decode=0.001, per_prefill_token=0.002, free_tokens=6)
    changed = changed_model(replace(MODEL, steps=steps), RequestWork(decode=0.5)).steps
    decoding, prompt = np.array([[1.0, 10, 0, 0, 0]]), np.array([[1.0, 0, 10, 0, 0]])
    assert changed.seconds(decoding) == approx(steps.seconds(decoding) / 2)
    assert changed.seconds(prompt) == approx([0.005 + 4 * 0.002])
