"""The simulator against schedules worked out by hand, and against a plain step-by-step oracle."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foundation.errors import BadInput
from results.capacity.demand.demand import NOBODY, Demand
from results.capacity.model.engine_model import (
    EngineModel,
    FrontEnd,
    LoadRange,
    Scheduler,
    StepJump,
    StepTime,
)
from results.capacity.simulation.replicas import ONE, Replicas
from results.capacity.simulation.simulated import Simulated
from results.capacity.simulation.simulator import simulate
from tests.results.naive_batching import NaiveJob, naive

ANYWHERE = LoadRange(1e9, 1e9, 1e9, 1e9, 1e9)


@pytest.fixture(autouse=True, scope="module")
def uncompiled() -> Iterator[None]:
    """The same functions in plain Python; `test_replicas` compares the compiled ones."""
    config = pytest.importorskip("numba").config
    name = "results.capacity.simulation.batching"
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "DISABLE_JIT", True)
        spec.loader.exec_module(module)
        patch.setattr(config, "DISABLE_JIT", False)
        assert not hasattr(module.run, "py_func")
        patch.setitem(sys.modules, name, module)
        yield


def model(
    steps: StepTime, scheduler: Scheduler | None = None, front: FrontEnd | None = None
) -> EngineModel:
    return EngineModel(
        steps, front or FrontEnd(), scheduler or Scheduler(), ANYWHERE, "engine record"
    )


def demand(*requests: tuple[float, int, int]) -> Demand:
    """(arrival, input tokens, output tokens) of each request."""
    arrival, inputs, outputs = zip(*requests, strict=True)
    return Demand.of(np.array(arrival, float), np.array(inputs), np.array(outputs))


def gaps_of(simulated: Simulated) -> list[float]:
    return sorted(np.repeat(simulated.gaps, simulated.gap_tokens).tolist())


def test_one_request_alone() -> None:
    """Prompt of 4 tokens: 1 + 4 / 2. Then 4 and 5 tokens are in the cache: 1.25 + 4 / 8, + 5 / 8"""
    alone = simulate(model(StepTime(1, 0.25, 0.5, 0.125)), demand((10, 4, 3)))
    assert alone.queued.tolist() == alone.scheduled.tolist() == [10]
    assert alone.first.tolist() == [13]
    assert alone.last.tolist() == [13 + 1.75 + 1.875]
    assert gaps_of(alone) == pytest.approx([1.75, 1.875])
    assert alone.reached == LoadRange(1, 4, 7, 6, 0)


def test_steps_of_more_requests_than_the_jump_take_its_factor() -> None:
    """Two prompts of a token: 3 x 2. Then one step of two requests, 3 x 2, and one of one, 2."""
    jump = StepJump(above=1, factor=3.0)
    both = simulate(model(StepTime(2, 0, 0, jump=jump)), demand((0, 1, 2), (0, 1, 3)))
    assert both.first.tolist() == [6, 6]
    assert both.last.tolist() == [12, 14]


def test_the_first_tokens_of_a_step_are_free_while_it_reads_the_weights() -> None:
    """Six prompt tokens, 2 of them free: 1 + 4 x 0.5. A step of one request is free. One of 2
    requests and 4 prompt tokens has 4 of 6 tokens: 1 + 4 x 0.5 + 0.3 x 2 x 4 / 6.
    """
    times = StepTime(1, 0.3, 0.5, free_tokens=2)
    alone = simulate(model(times), demand((0, 6, 3)))
    assert alone.first.tolist() == [3]
    assert alone.last.tolist() == [5]
    three = simulate(model(times), demand((0, 3, 9), (0, 3, 9), (3.5, 4, 1)))
    assert three.first.tolist()[:2] == [3, 3]  # six tokens of two prompts, then steps at 4 and 5
    assert three.first[2] == pytest.approx(4 + 1 + 2 + 0.4)


def test_the_front_end_delays_a_request_before_the_queue_and_its_tokens_after_each_step() -> None:
    front = FrontEnd(per_request=1, per_input_token=0.5, per_output_token=0.25)
    alone = simulate(model(StepTime(1, 0, 0), front=front), demand((0, 4, 3)))
    assert alone.queued.tolist() == [3]
    assert alone.first.tolist() == [4.25]
    assert alone.last.tolist() == [6.25]
    assert alone.delivery == 0.25


def test_a_request_that_comes_during_a_step_joins_the_next() -> None:
    """Steps: 0 to 2 (prompt), 2 to 3, 3 to 6 (a prompt of 2 beside a decode), 6 to 8 (decodes)."""
    both = simulate(model(StepTime(0, 1, 1)), demand((0, 2, 4), (2.5, 2, 2)))
    assert both.scheduled.tolist() == [0, 3]
    assert both.first.tolist() == [2, 6]
    assert both.last.tolist() == [8, 8]
    assert gaps_of(both) == pytest.approx([1, 2, 2, 3])


def test_a_long_prompt_is_computed_in_pieces_beside_decodes() -> None:
    """4 tokens a step. 1: prompt of 2, then 2 of the 7 tokens. 2: decode, 3. 3: decode, 2."""
    limits = Scheduler(max_num_batched_tokens=4)
    both = simulate(model(StepTime(1, 0, 0), limits), demand((0, 2, 3), (0, 7, 1)))
    assert both.scheduled.tolist() == [0, 0]
    assert both.first.tolist() == [1, 3]
    assert both.last.tolist() == [3, 3]
    assert both.reached.prefill_tokens == 4


def test_a_prompt_in_pieces_attends_to_the_pieces_before() -> None:
    """Pieces of 4, 4 and 2 tokens: 4 x 2, 4 x (4 + 2), 2 x (8 + 1) pairs."""
    limits = Scheduler(max_num_batched_tokens=4)
    alone = simulate(model(StepTime(0, 0, 0, per_pair=1), limits), demand((0, 10, 1)))
    assert alone.first.tolist() == [8 + 24 + 18]


def test_without_chunked_prefill_a_prompt_waits_until_it_fits_whole() -> None:
    """8 tokens a step: the prompt of 7 does not fit beside that of 2, but beside one decode."""
    limits = Scheduler(max_num_batched_tokens=8, chunked_prefill=False)
    both = simulate(model(StepTime(1, 0, 0), limits), demand((0, 2, 3), (0, 7, 1)))
    assert both.scheduled.tolist() == [0, 1]
    assert both.first.tolist() == [1, 2]


def test_no_more_requests_run_than_max_num_seqs() -> None:
    limits = Scheduler(max_num_seqs=1)
    three = simulate(model(StepTime(1, 0, 0), limits), demand((0, 1, 2), (0, 1, 3), (0.5, 1, 1)))
    assert three.scheduled.tolist() == [0, 2, 5]
    assert three.last.tolist() == [2, 5, 6]


def test_the_last_request_gives_way_when_the_kv_blocks_are_used_up() -> None:
    """3 blocks of 2 tokens, two prompts of 2: a block each at 1 s.

    At 1 s both need a second block and one is free: the second request gives its block back, and
    none is admitted in that step. At 2 s it needs 2 blocks (2 tokens, and the one it has made), and
    one is free. At 3 s the first has ended: the second computes 3 tokens, and its second token ends
    it at 4 s.
    """
    limits = Scheduler(kv_blocks=3, block_size=2)
    both = simulate(model(StepTime(1, 0, 0), limits), demand((0, 2, 3), (0, 2, 2)))
    assert both.first.tolist() == [1, 1]
    assert both.last.tolist() == [3, 4]
    assert both.preemptions.tolist() == [0, 1]
    assert gaps_of(both) == pytest.approx([1, 1, 3])


def test_full_blocks_of_a_known_prefix_are_not_computed_again() -> None:
    """Prompts of 10 with a prefix of 7 tokens: one block of 4 of it is known to the second."""
    known = replace(
        demand((0, 10, 1), (20, 10, 1), (40, 4, 1)),
        prefix=np.array([5, 5, 5]),
        prefix_tokens=np.array([7, 7, 4]),
    )
    limits = Scheduler(block_size=4, prefix_caching=True)
    cached = simulate(model(StepTime(0, 0, 1), limits), known)
    # The third is the prefix's block and no more: its last token must be computed, so all are.
    assert (cached.last - cached.queued).tolist() == [10, 6, 4]
    off = simulate(model(StepTime(0, 0, 1), replace(limits, prefix_caching=False)), known)
    assert (off.last - off.queued).tolist() == [10, 10, 4]


def test_requests_share_the_blocks_of_a_prefix() -> None:
    """5 blocks of 4: a prompt of 9 takes 3, of which 2 are the prefix's; two more need 1 each."""
    known = replace(
        demand((0, 9, 3), (0, 9, 3), (0, 9, 3)),
        prefix=np.array([0, 0, 0]),
        prefix_tokens=np.array([8, 8, 8]),
    )
    limits = Scheduler(kv_blocks=5, block_size=4, prefix_caching=True)
    assert simulate(model(StepTime(1, 0, 0), limits), known).scheduled.tolist() == [0, 0, 0]
    apart = simulate(model(StepTime(1, 0, 0), replace(limits, prefix_caching=False)), known)
    assert apart.scheduled.tolist() == [0, 3, 6]


def test_a_request_whose_adapter_has_no_place_is_overtaken() -> None:
    adapters = replace(demand((0, 1, 2), (0, 1, 2), (0, 1, 2)), adapter=np.array([7, 8, 7]))
    one = simulate(model(StepTime(1, 0, 0), Scheduler(max_loras=1)), adapters)
    assert one.scheduled.tolist() == [0, 2, 0]
    two = simulate(model(StepTime(1, 0, 0), Scheduler(max_loras=2)), adapters)
    assert two.scheduled.tolist() == [0, 0, 0]


def test_a_request_that_can_never_be_served_is_refused() -> None:
    with pytest.raises(BadInput, match=r"13 tokens does not fit into the KV cache of 8 tokens"):
        simulate(model(StepTime(1, 0, 0), Scheduler(kv_blocks=2, block_size=4)), demand((0, 9, 4)))
    limits = Scheduler(max_num_batched_tokens=8, chunked_prefill=False)
    with pytest.raises(BadInput, match=r"13 tokens does not fit into a step of 8 tokens"):
        simulate(model(StepTime(1, 0, 0), limits), demand((0, 9, 4)))


def test_the_step_that_reaches_the_end_of_the_warm_up_still_fills() -> None:
    """Of 10 requests, the second is the first that counts: gaps of steps from 1.5 s on."""
    ten = demand((0, 1, 20), *[(1.5, 1, 1)] * 9)
    assert simulate(model(StepTime(1, 0, 0)), ten).gap_tokens.sum() == 18


@st.composite
def loads(draw: st.DrawFn) -> tuple[EngineModel, Demand, Replicas]:
    """Whole numbers for all times, so that sums are exact in any order."""
    n = draw(st.integers(1, 14))
    block, prefix = draw(st.sampled_from([1, 2, 4])), draw(st.integers(1, 9))
    arrival = np.cumsum(draw(st.lists(st.integers(0, 12), min_size=n, max_size=n)))
    inputs = np.array(draw(st.lists(st.integers(1, 12), min_size=n, max_size=n)))
    outputs = np.array(draw(st.lists(st.integers(1, 9), min_size=n, max_size=n)))
    prefixes = np.array(draw(st.lists(st.integers(NOBODY, 1), min_size=n, max_size=n)))
    prefixes = np.where(inputs > prefix, prefixes, NOBODY)
    requests = Demand(
        arrival.astype(float),
        inputs,
        outputs,
        prefixes,
        np.where(prefixes == NOBODY, 0, prefix),
        np.array(draw(st.lists(st.integers(NOBODY, 2), min_size=n, max_size=n))),
    )
    chunked = draw(st.booleans())
    scheduler = Scheduler(
        max_num_seqs=draw(st.none() | st.integers(1, 5)),
        max_num_batched_tokens=draw(st.none() | st.integers(1 if chunked else 21, 25)),
        kv_blocks=draw(st.none() | st.integers(-(-20 // block), 40)),
        block_size=block,
        chunked_prefill=chunked,
        prefix_caching=draw(st.booleans()),
        max_loras=draw(st.none() | st.integers(1, 2)),
    )
    times = draw(st.tuples(st.integers(1, 9), *[st.integers(0, 3)] * 4))
    jump = draw(st.none() | st.builds(StepJump, st.integers(1, 4), st.integers(2, 3)))
    free = draw(st.none() | st.integers(1, 8))
    if free is not None:  # a share of a decoding request's time is no whole number
        times = (times[0], 0, *times[2:])
    front = FrontEnd(draw(st.integers(0, 3)), draw(st.integers(0, 1)))
    router = draw(st.sampled_from(["round robin", "least requests", "prefix affinity"]))
    changes = draw(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 3)), max_size=2))
    replicas = Replicas(
        draw(st.integers(1, 3)), router, draw(st.integers(0, 20)), tuple(sorted(changes))
    )
    return (
        model(StepTime(*times, jump=jump, free_tokens=free), scheduler, front),
        requests,
        replicas,
    )


def same(simulated: Simulated, jobs: list[tuple[NaiveJob, int]]) -> None:
    assert simulated.replica.tolist() == [place for _, place in jobs]
    assert simulated.scheduled.tolist() == [job.scheduled for job, _ in jobs]
    assert simulated.first.tolist() == [job.stamps[0] for job, _ in jobs]
    assert simulated.last.tolist() == [job.stamps[-1] for job, _ in jobs]
    assert simulated.preemptions.tolist() == [job.preemptions for job, _ in jobs]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(load=loads())
def test_jumps_end_where_single_steps_do(load: tuple[EngineModel, Demand, Replicas]) -> None:
    engine, requests, replicas = load
    simulated = simulate(engine, requests, replicas)
    jobs = naive(engine, requests, replicas)
    same(simulated, jobs)
    gaps = [after - before for job, _ in jobs for before, after in pairwise(job.stamps)]
    if simulated.settled == requests.arrival[0]:
        assert gaps_of(simulated) == pytest.approx(sorted(gaps), rel=1e-3)
        assert (simulated.gaps * simulated.gap_tokens).sum() == pytest.approx(sum(gaps))


def test_round_robin_over_more_replicas_is_never_worse() -> None:
    rng = np.random.default_rng(1)
    many = Demand.of(
        np.cumsum(rng.exponential(1, 100)), rng.integers(1, 30, 100), rng.integers(1, 30, 100)
    )
    engine = model(StepTime(0.1, 0.02, 0.01), Scheduler(max_num_seqs=8))
    means = [
        float((simulate(engine, many, Replicas(n)).last - many.arrival).mean())
        for n in (1, 2, 4, 8)
    ]
    assert means == sorted(means, reverse=True)
    assert simulate(engine, many, Replicas(100)).last == pytest.approx(
        np.concatenate([simulate(engine, many.take(np.array([i])), ONE).last for i in range(100)])
    )
