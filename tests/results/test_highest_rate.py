"""The highest rate that a load keeps, against queues with closed forms near saturation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import expon, lognorm

from foundation.arrays import Floats
from results.capacity.demand.demand import Demand
from results.capacity.model.engine_model import (
    EngineModel,
    FrontEnd,
    LoadRange,
    Scheduler,
    StepTime,
)
from results.capacity.simulation.chances import by_length
from results.capacity.simulation.held_rate import ERROR, held_rate
from results.capacity.simulation.highest_rate import highest_rate
from results.capacity.simulation.slo_load import SloLoad
from results.config import Slo

ANYWHERE = LoadRange(1e9, 1e9, 1e9, 1e9, 1e9)
# One request at a time, a millisecond for each token of its prompt: a queue with one server.
QUEUE = EngineModel(
    StepTime(0, 0, 1e-3), FrontEnd(), Scheduler(max_num_seqs=1), ANYWHERE, "engine record"
)
MIDDLES = (np.arange(5_000) + 0.5) / 5_000
HEAVY = 1000 * lognorm(1.0, scale=np.exp(-0.5)).ppf(MIDDLES)
EXPONENTIAL = 1000 * expon.ppf(MIDDLES)


def requests(tokens: Floats) -> Demand:
    """Requests that take so many milliseconds each, rounded, by length."""
    prompts = np.maximum(np.rint(tokens), 1).astype(np.int64)
    ones = np.ones(len(prompts), np.int64)
    return by_length(Demand.of(np.arange(len(prompts), dtype=np.float64), prompts, ones))


def rate_of_mean(demand: Demand, limit_s: float) -> float:
    """The rate of M/G/1 whose mean latency is the limit (Pollaczek and Khinchine)."""
    seconds = demand.input_tokens / 1e3
    mean, wait = float(seconds.mean()), limit_s - float(seconds.mean())
    return 2 * wait / (float((seconds**2).mean()) + 2 * mean * wait)


def test_a_heavy_tail_is_held_at_the_rate_of_pollaczek_and_khinchine() -> None:
    demand = requests(HEAVY)
    held = held_rate(QUEUE, demand, Slo({"latency_mean": "8s"}), seed=1)
    assert held.rate is not None and held.monte_carlo is not None
    exact = rate_of_mean(demand, 8.0)
    assert 0 < held.monte_carlo < 2 * ERROR
    assert held.rate == pytest.approx(exact, rel=3 * held.monte_carlo)


def test_runs_count_together_since_the_mean_of_their_own_rates_is_too_high() -> None:
    """M/M/1: latencies are exponential, so their p95 is 20 s at a rate of 1 - ln(20) / 20."""
    demand, rng = requests(EXPONENTIAL), np.random.default_rng(4)
    load = SloLoad.of({"latency_p95": 20_000.0}, 60, 600, rng)
    together = highest_rate(load, QUEUE, demand)
    own = [highest_rate(SloLoad([run], load.limits), QUEUE, demand).rate for run in load.runs]
    exact = 1 - np.log(20) / 20
    assert together.binding == "latency_p95"
    assert together.rate == pytest.approx(exact, rel=3 * together.error)
    assert np.mean(own) > exact * 1.05


def test_the_error_by_chance_is_how_far_loads_lie_apart() -> None:
    demand, rng = requests(EXPONENTIAL), np.random.default_rng(5)
    limits = {"latency_p95": 10_000.0}
    loads = [SloLoad.of(limits, 8, 600, rng) for _ in range(30)]
    some = [highest_rate(load, QUEUE, demand, guess=0.7) for load in loads]
    deviation = np.log([each.rate for each in some]).std(ddof=1)
    error = np.sqrt(np.mean([each.error**2 for each in some]))
    # The deviation of 30 numbers is known to 13 %.
    assert error == pytest.approx(deviation, rel=0.4)


def test_the_later_half_of_runs_that_are_too_short_tells_a_lower_rate() -> None:
    """M/M/1 at 0.95 of saturation: its queue grows for more than a thousand requests."""
    demand, rng = requests(EXPONENTIAL), np.random.default_rng(6)
    limits = {"latency_mean": 20_000.0}
    exact = rate_of_mean(demand, 20.0)
    short = highest_rate(SloLoad.of(limits, 40, 800, rng), QUEUE, demand, exact)
    long = highest_rate(SloLoad.of(limits, 4, 20_000, rng), QUEUE, demand, exact)
    assert short.rate > exact * 1.01
    assert -0.1 < short.later < -0.01
    assert long.later > -0.01
    # So few requests break this limit at no rate: what they tell is saturation.
    short = highest_rate(SloLoad.of({"latency_mean": 60_000.0}, 4, 100, rng), QUEUE, demand)
    assert short.later == -np.inf
