"""The rate that one replica holds, against closed forms, and the reasons why there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from results.capacity.demand.demand import Demand
from results.capacity.model.engine_model import (
    EngineModel,
    FrontEnd,
    LoadRange,
    Scheduler,
    StepTime,
)
from results.capacity.simulation.held_rate import HeldRate, held_rate
from results.capacity.simulation.slo_load import absolute_limits, requests_for
from results.config import Slo

WIDE = LoadRange(1e3, 1e3, 1e3, 1e6, 10)
# One request at a time, each of a second: the queue M/D/1.
QUEUE = EngineModel(
    StepTime(0, 0, 1), FrontEnd(), Scheduler(max_num_seqs=1), WIDE, "engine record",
    np.tile([0.0, 0, 1, 0, 0], (3, 1)),
)  # fmt: skip
ONES = Demand.of(np.arange(50.0), np.ones(50, np.int64), np.ones(50, np.int64))
# A mean latency of 1 + load / (2 (1 - load)) s, which is 2 s at a load of 2/3.
TWO_SECONDS = Slo({"latency_mean": "2s"})


def slowed(model: EngineModel, factor: float) -> EngineModel:
    steps = StepTime(*(model.steps.coefficients * factor).tolist())
    fitted = replace(model.fitted, rate=model.fitted.rate / factor)
    return replace(model, steps=steps, draws=model.draws * factor, fitted=fitted)


def test_the_rate_of_a_queue_is_that_of_its_closed_form() -> None:
    held = held_rate(QUEUE, ONES, TWO_SECONDS, seed=3)
    assert held.rate is not None and held.low is not None and held.high is not None
    assert held.monte_carlo is not None and held.monte_carlo < 0.02
    assert held.low < 2 / 3 < held.high
    assert held.rate == pytest.approx(2 / 3, rel=0.03)
    assert held.binding == "latency_mean" and held.reason is None and not held.lower_bound
    # The same requests come to an engine of half the speed, which holds half as many.
    half = held_rate(slowed(QUEUE, 2), ONES, Slo({"latency_mean": "4s"}), seed=3)
    assert half.rate == pytest.approx(held.rate / 2)


def test_draws_that_differ_by_a_tenth_make_an_interval_as_wide() -> None:
    draws = np.zeros((60, 5))
    draws[:, 2] = np.exp(np.random.default_rng(1).normal(0, 0.1, 60))
    held = held_rate(replace(QUEUE, draws=draws), ONES, TWO_SECONDS, seed=4)
    assert held.rate and held.low and held.high
    # The limit stays: where a request takes s seconds, the load is 2 (2 - s) / (4 - s).
    at = [2 * (2 - s) / (4 - s) / s for s in (np.exp(0.2), np.exp(-0.2))]
    assert np.log(held.high / held.low) == pytest.approx(np.log(at[1] / at[0]), rel=0.35)


@pytest.mark.parametrize(
    ("model", "slo", "reason"),
    [
        (QUEUE, {"latency_p95": "900ms"}, "of requests that are alone is 1,000 ms, and its limit"),
        (QUEUE, {"error_rate": "1%"}, "the slo names no limit on a time"),
        (QUEUE, {"latency_p95": "1.1x"}, "relative to the baseline, which has no such value"),
        (replace(QUEUE, fitted=replace(WIDE, context=1)), {"latency_p95": "2s"}, "tokens in a req"),
        (
            replace(QUEUE, fitted=replace(WIDE, prefill_tokens=0.5)),
            {"latency_p95": "5s"},
            "at any rate",
        ),
        (
            replace(QUEUE, scheduler=Scheduler(kv_blocks=1, block_size=1)),
            {"latency_p95": "2s"},
            "does not fit into the KV cache",
        ),
    ],
)
def test_a_rate_that_is_not_known_has_a_reason(
    model: EngineModel, slo: dict[str, str], reason: str
) -> None:
    demand = replace(ONES, output_tokens=np.full(50, 2)) if "KV" in reason else ONES
    held = held_rate(model, demand, Slo(slo), seed=1)
    assert held == HeldRate(reason=held.reason)
    assert reason in (held.reason or "")


def test_beyond_the_models_reach_the_rate_is_a_lower_bound() -> None:
    model = replace(QUEUE, fitted=replace(WIDE, rate=0.3))
    held = held_rate(model, ONES, TWO_SECONDS, seed=3)
    assert held.rate == held.low == pytest.approx(0.45, rel=0.006)
    assert held.lower_bound and held.high is None
    assert "more may be held, beyond the model's reach" in (held.reason or "")


def test_requests_that_take_no_time_are_held_up_to_the_models_reach() -> None:
    model = replace(QUEUE, steps=StepTime(0, 0, 0), draws=np.zeros((3, 5)), scheduler=Scheduler())
    held = held_rate(model, ONES, TWO_SECONDS, seed=3)
    assert held.rate == held.low == pytest.approx(15, rel=0.006)
    assert held.lower_bound and held.binding is not None


def test_a_limit_relative_to_the_baseline_takes_its_value() -> None:
    slo = Slo({"latency_mean": "2x", "ttft_p50": "3s", "error_rate": "1%"})
    assert absolute_limits(slo, {"latency_mean": 1000}) == {"latency_mean": 2000, "ttft_p50": 3000}
    assert requests_for({"latency_p99": 1}) == 11_112
