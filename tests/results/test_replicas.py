"""Which replica serves a request, by hand; and the compiled simulator over several of them."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from results.capacity.demand.demand import NOBODY, Demand
from results.capacity.model.engine_model import (
    EngineModel,
    FrontEnd,
    LoadRange,
    Scheduler,
    StepTime,
)
from results.capacity.simulation.replicas import Replicas, Router
from results.capacity.simulation.simulator import simulate
from tests.results.naive_batching import naive

ANYWHERE = LoadRange(1e9, 1e9, 1e9, 1e9, 1e9)


def arriving(*moments: float) -> Demand:
    ones = np.ones(len(moments), np.int64)
    return Demand.of(np.array(moments), ones, ones)


def test_requests_go_in_turns() -> None:
    assigned = Replicas(3).assigned(arriving(0, 1, 2, 3, 4))
    assert assigned is not None
    assert assigned.tolist() == [0, 1, 2, 0, 1]


def test_a_replica_that_is_added_serves_after_its_warm_up() -> None:
    """1 to 3 at 10 s, which serve from 15 s on; down to 2 at 20 s, at once."""
    replicas = Replicas(1, warm_up_s=5, changes=((10.0, 3), (20.0, 2)))
    assert replicas.serving(arriving(9, 10, 14, 15, 19, 20)).tolist() == [1, 1, 1, 3, 3, 2]
    taken_back = Replicas(1, warm_up_s=5, changes=((10.0, 3), (12.0, 2)))
    assert taken_back.serving(arriving(14, 15, 99)).tolist() == [1, 2, 2]


def test_a_prefix_keeps_to_its_replica() -> None:
    demand = replace(arriving(*range(8)), prefix=np.array([5, 6, NOBODY, 5, 6, 5, NOBODY, 6]))
    assigned = Replicas(4, "prefix affinity").assigned(demand)
    assert assigned is not None
    assert len(set(assigned[demand.prefix == 5])) == len(set(assigned[demand.prefix == 6])) == 1
    assert assigned[2] == 2 and assigned[6] == 2  # in turns: the third and the seventh of four


def test_a_fleet_without_a_replica_or_with_changes_out_of_order_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one replica"):
        Replicas(0)
    with pytest.raises(ValueError, match="in the order of time"):
        Replicas(1, changes=((5.0, 2), (1.0, 1)))


@pytest.mark.parametrize("router", get_args(Router))
def test_the_compiled_simulator_equals_the_naive_one(router: Router) -> None:
    """Whole numbers, so that sums are exact: prefixes, adapters, pieces and preemptions."""
    rng, n = np.random.default_rng(7), 200
    prefix = rng.integers(NOBODY, 3, n)
    demand = Demand(
        np.cumsum(rng.integers(0, 40, n)).astype(float),
        rng.integers(9, 20, n),
        rng.integers(1, 15, n),
        prefix,
        np.where(prefix == NOBODY, 0, 8),
        rng.integers(NOBODY, 2, n),
    )
    limits = Scheduler(
        max_num_seqs=6, max_num_batched_tokens=24, kv_blocks=20, block_size=4,
        prefix_caching=True, max_loras=1,
    )  # fmt: skip
    model = EngineModel(StepTime(5, 1, 2, 1, 2), FrontEnd(1), limits, ANYWHERE, "engine record")
    replicas = Replicas(2, router, warm_up_s=50, changes=((1000.0, 3),))
    simulated, jobs = simulate(model, demand, replicas), naive(model, demand, replicas)
    assert simulated.preemptions.sum() > 0
    assert simulated.replica.tolist() == [place for _, place in jobs]
    assert simulated.first.tolist() == [job.stamps[0] for job, _ in jobs]
    assert simulated.last.tolist() == [job.stamps[-1] for job, _ in jobs]
    assert simulated.preemptions.tolist() == [job.preemptions for job, _ in jobs]
