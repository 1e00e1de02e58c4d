"""An engine in virtual time: moments worked out by hand, and the files that `results` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from foundation.run.engine_record import EngineStart
from foundation.run.engine_records import read_engine_records
from foundation.run.journal import Journal, read_journal, read_prompts
from foundation.run.layout import RunDirectory
from loadgen.emulator.batch_limits import BatchLimits
from loadgen.emulator.behaviour import Distribution
from loadgen.emulator.plant import Oddities, Plant, StepCost
from loadgen.emulator.virtual_load import ServedLoad, VirtualLoad
from loadgen.emulator.virtual_run import START_NS, VirtualRun
from loadgen.emulator.virtual_server import VirtualServer
from results.measures.steady_state import block_of
from results.measures.waterfall import Detail, block_segments
from tests.loadgen.test_server_times import engine_lines

MS = 1_000_000
COST = StepCost(fixed=0.010, decode=0.001, prefill=0.0001)
TWO = VirtualLoad.of([0.0, 0.015], [10, 20], [3, 2])


def ms(moments_ns: object) -> list[float]:
    return [float(moment) for moment in np.asarray(moments_ns) / MS]


def test_each_step_begins_when_the_last_is_over_and_takes_what_its_work_costs() -> None:
    served = VirtualServer(Plant(COST)).open_loop(TWO)
    assert ms(served.steps.began_ns) == [0, 11, 22, 35]
    assert ms(served.steps.ended_ns) == [11, 22, 35, 46]
    assert served.steps.decodes.tolist() == [0, 1, 1, 1]
    assert served.steps.prefill_tokens.tolist() == [10, 0, 20, 0]
    assert served.steps.kv_tokens.tolist() == [0, 10, 11, 20]
    assert served.steps.pairs.tolist() == [50, 0, 200, 0]
    assert served.steps.running.tolist() == [1, 1, 1, 0]
    assert ms(served.computed_ns) == [11, 22, 35, 35, 46]
    assert ms(served.scheduled_ns) == [0, 22]
    assert served.ttft.tolist() == pytest.approx([0.011, 0.020])
    assert served.tpot.tolist() == pytest.approx([0.012, 0.011])
    assert served.latency.tolist() == pytest.approx([0.035, 0.031])


def test_context_and_pairs_of_prompt_tokens_cost_what_the_plant_says() -> None:
    limits = BatchLimits(max_num_seqs=4, max_num_batched_tokens=8)
    plant = Plant(StepCost(0.010, kv=0.001, pair=0.0001), limits)
    served = VirtualServer(plant).open_loop(VirtualLoad.of([0, 0], [5, 12], [4, 2]))
    taken_ms = ms(served.steps.ended_ns - served.steps.began_ns)
    pairs = [5 * 2.5 + 3 * 1.5, 7 * (3 + 3.5), 2 * (10 + 1), 0]
    assert served.steps.pairs.tolist() == pairs
    kv = [0, 5, 6, 7 + 12]
    assert taken_ms == pytest.approx([10 + k + 0.1 * a for k, a in zip(kv, pairs, strict=True)])


def test_the_front_end_delays_the_queue_and_tokens_leave_after_their_step() -> None:
    front = Distribution("fixed", 0.002)
    plant = Plant(COST, front=front, front_per_token=0.0001, after=0.003)
    served = VirtualServer(plant).open_loop(TWO)
    assert ms(served.queued_ns) == [3, 19]
    assert ms(served.scheduled_ns) == [3, 25]
    assert ms(served.first_ns) == [14 + 3, 38 + 3]
    assert ms(served.last_ns) == [38 + 3, 49 + 3]


def test_a_cliff_a_drift_and_noise_multiply_a_step() -> None:
    load = VirtualLoad.of([0, 0, 0], [1, 1, 1], [2, 3, 4])
    plain = VirtualServer(Plant(StepCost(0.010))).open_loop(load)
    cliff = VirtualServer(Plant(StepCost(0.010), oddities=Oddities(cliff=1, cliff_share=0.5)))
    assert ms(plain.steps.ended_ns) == [10, 20, 30, 40]
    assert ms(cliff.open_loop(load).steps.ended_ns) == [15, 30, 45, 55]
    drift = Plant(StepCost(0.010), oddities=Oddities(drift=0.2, drift_period=0.040))
    first, second = ms(VirtualServer(drift).open_loop(load).steps.ended_ns)[:2]
    assert (first, second) == (10, 10 + 12)  # a quarter of the period later
    long = VirtualLoad.of([0], [1], [5_000])
    noisy = Plant(StepCost(0.010), oddities=Oddities(noise=0.3), seed=5)
    steps = VirtualServer(noisy).open_loop(long).steps
    factors = (steps.ended_ns - steps.began_ns) / (10 * MS)
    assert factors.mean() == pytest.approx(1, abs=4 * 0.3 / 5_000**0.5)
    assert np.log(factors).std() == pytest.approx(0.3, rel=0.05)
    again = VirtualServer(noisy).open_loop(long).steps
    assert np.array_equal(again.ended_ns, steps.ended_ns)


def test_a_closed_loop_sends_the_next_request_when_an_answer_is_complete() -> None:
    load = VirtualLoad.of([9, 9, 9], [10, 10, 10], [1, 3, 2])
    served = VirtualServer(Plant(COST, after=0.001)).closed_loop(load, 2)
    assert ms(served.arrival_ns) == [0, 0, 12 + 1]
    # 12: two prompts. 23: one decodes, and the third comes meanwhile. 35: it is computed too.
    assert ms(served.steps.ended_ns) == [12, 23, 35, 46]
    assert ms(served.last_ns) == [13, 36, 47]


def test_a_server_serves_one_load_after_another_and_keeps_its_prefix_cache() -> None:
    limits = BatchLimits(prefix_caching=True, block_size=4)
    server = VirtualServer(Plant(COST, limits))
    load = VirtualLoad.of([0.0], [10], [2], prefix=[3], prefix_tokens=[9])
    first, second = server.open_loop(load), server.open_loop(load)
    assert (first.cached_tokens.tolist(), second.cached_tokens.tolist()) == ([0], [8])
    assert (second.origin_ns, second.number.tolist()) == (int(first.last_ns[0]), [1])
    assert ms(second.first_ns) == [10.2]
    other = VirtualLoad.of([0.0], [10], [2], prefix=[3], prefix_tokens=[9], adapter=[1])
    assert server.open_loop(other).cached_tokens.tolist() == [0]


def test_tokens_of_a_preempted_request_come_from_before_and_after() -> None:
    limits = BatchLimits(max_num_seqs=4, kv_blocks=4, block_size=2)
    served = VirtualServer(Plant(StepCost(0.010), limits)).open_loop(
        VirtualLoad.of([0, 0], [3, 3], [4, 3])
    )
    assert served.preemptions.tolist() == [0, 1]
    assert served.computed_tokens.tolist() == [6, 9]
    tokens = [
        ms(served.computed_ns[slice(*served.token_start[place : place + 2])]) for place in (0, 1)
    ]
    assert tokens == [[10, 20, 30, 40], [10, 20, 50]]


def test_a_request_that_can_never_be_served_is_refused() -> None:
    server = VirtualServer(Plant(COST, BatchLimits(kv_blocks=2)))
    with pytest.raises(ValueError, match="40 tokens do not fit"):
        server.open_loop(VirtualLoad.of([0.0], [40], [1]))


@pytest.fixture(scope="module")
def served() -> ServedLoad:
    rng = np.random.default_rng(1)
    front = Distribution("fixed", 0.002)
    limits = BatchLimits(max_num_seqs=8, kv_blocks=25, prefix_caching=True)
    plant = Plant(COST, limits, Oddities(noise=0.1), front, after=0.0005)
    n = 200
    arrival = np.cumsum(rng.exponential(0.05, n))
    lengths = rng.integers(5, 60, n), rng.integers(1, 40, n)
    shared = np.minimum(lengths[0], 32)
    load = VirtualLoad.of(arrival, *lengths, prefix=rng.integers(0, 3, n), prefix_tokens=shared)
    server = VirtualServer(plant)
    server.open_loop(load)
    return server.open_loop(load)


def test_results_read_a_virtual_run_as_they_read_any(served: ServedLoad, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    plant = Plant(COST, BatchLimits(max_num_seqs=8, kv_blocks=25, prefix_caching=True))
    virtual = VirtualRun(run, "base", plant)
    virtual.write_prompts(served)
    virtual.write(served, "main", offered_rate=20.0, warmup=1.0)
    journal = read_journal(run.journal("base", "main", 1))
    assert isinstance(journal, Journal) and not journal.damage and journal.end is not None
    requests = journal.requests
    assert len(read_prompts(tmp_path)) == len(requests) == len(served) == 200
    assert requests.ok.all() and (requests.cached_tokens == served.cached_tokens).all()
    assert served.preemptions.sum() > 0 and served.cached_tokens.sum() > 0
    latency_s = (requests.last_ns - requests.scheduled_ns) / 1e9
    assert latency_s == pytest.approx(served.latency)
    timed = read_engine_records(run.engine).timed(journal)
    start, *lines = engine_lines(run.engine / "base.jsonl")
    assert isinstance(start, EngineStart) and start.limits is not None
    assert (start.limits.kv_blocks, start.limits.max_num_seqs) == (25, 8)
    assert start.monotonic_ns == START_NS
    assert len(lines) == 200 + len(served.steps)
    block = block_of(timed)
    segments = block_segments(block, Detail.MOMENTS)
    parts = dict(zip(segments.keys, segments.values.T, strict=True))
    keep = np.isin(np.arange(200), block.steady.id)
    assert parts["before_queue"] == pytest.approx(np.full(keep.sum(), 2.0))
    queued_ms = (served.scheduled_ns - served.queued_ns)[keep] / MS
    assert parts["queued"] == pytest.approx(queued_ms)
    assert parts["unexplained"] == pytest.approx(np.full(keep.sum(), 0.5))
