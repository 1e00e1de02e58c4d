"""Whether a server kept up: latencies of known growth, and simulated queues."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats

from foundation.run.records import RequestRecord
from foundation.run.requests import Requests, requests_of
from results.analysis import analyse
from results.decision.verdict import judge
from results.measures.saturation import growth, held, too_short
from results.summary import StageSummary
from tests.results.synthetic import Goals, inputs, request, write_journal, write_prompts


def served(latencies_ms: Sequence[float], every_ms: float = 100) -> Requests:
    return requests_of(
        request(i, "q", i * every_ms, latency) for i, latency in enumerate(latencies_ms)
    )


def queue(
    rng: random.Random, servers: int, load: float, n: int, work: Callable[[], float]
) -> Requests:
    """An open queue that begins empty: Poisson, first come first served; mean `work` 1 s."""
    free, at, latencies, times = [0.0] * servers, 0.0, [], []
    for _ in range(n):
        at += rng.expovariate(load * servers)
        begins = max(at, heapq.heappop(free))
        heapq.heappush(free, ends := begins + work())
        times.append(at)
        latencies.append(ends - at)
    return requests_of(
        request(i, "q", at * 1e3, latency * 1e3)
        for i, (at, latency) in enumerate(zip(times, latencies, strict=True))
    )


def test_the_lag_is_the_load_over_what_the_server_does_less_one() -> None:
    """10 arrive a second, 8 are answered: 1/8 s - 1/10 s more for each request, 0.25 s a second."""
    state = held([served([200 + 25 * i for i in range(100)])], offered=True)
    assert (state.value, state.lag) == (False, pytest.approx(0.25))
    assert state.reason == "the queue grew: latency rose by 250 ms a second"


def test_constant_answers_are_held_however_long_they_take() -> None:
    for latency in (50.0, 5_000.0, 60_000.0):
        state = held([served([latency] * 200)] * 10, offered=True)
        assert (state.value, state.reason, state.lag) == (True, None, pytest.approx(0))


def test_a_closed_loop_offers_no_rate() -> None:
    state = held([served([100.0] * 100)], offered=False)
    assert state.value is None and "a closed loop offers no rate" in (state.reason or "")


def test_a_handful_of_requests_tells_nothing() -> None:
    state = held([served([100.0] * 9)] * 2, offered=True)
    assert state.value is None and "fewer than 20 requests" in (state.reason or "")


def test_requests_that_waited_until_their_deadline_count() -> None:
    """8 of 10 a second are answered, and what is later than 2 s times out."""
    latencies = [200 + 25 * i for i in range(120)]
    records = [
        request(
            i,
            "q",
            i * 100,
            min(latency, 2_000),
            failure="timeout_total" if latency > 2_000 else None,
        )
        for i, latency in enumerate(latencies)
    ]
    assert held([requests_of(records)], offered=True).value is False


@pytest.mark.parametrize(
    ("servers", "n", "blocks"), [(1, 60, 10), (8, 200, 5), (32, 600, 1), (4, 600, 3)]
)
def test_queues_that_are_stable_and_that_are_not(servers: int, n: int, blocks: int) -> None:
    """40 runs at loads of 0.8 and 1.3: at most one is wrong (rates: benchmarks/steadiness)."""
    rng, runs = random.Random(servers), 40

    def work() -> float:
        return rng.expovariate(1.0)

    grew = {
        load: sum(
            held([queue(rng, servers, load, n, work) for _ in range(blocks)], offered=True).value
            is False
            for _ in range(runs)
        )
        for load in (0.8, 1.3)
    }
    assert grew[0.8] <= 1 and grew[1.3] >= runs - 1


def stage_of(run: Path, records: list[RequestRecord], **more: object) -> StageSummary:
    write_journal(run, "base", 1, records, **more)
    return analyse(inputs(run, ["base"], Goals({"latency_p95": "60s"}))).variants[0].stages[0]


def test_long_answers_in_a_short_window_are_not_suspect(tmp_path: Path) -> None:
    """Answers of 5 s in a window of 20 s: 50 of 200 end after it, and the server kept up."""
    stage = stage_of(
        tmp_path, [request(i, "q", i * 100, 5_000, 100) for i in range(200)], window_ms=(0, 20_000)
    )
    assert (stage.held, stage.held_reason) == (True, None)
    assert (stage.validity.level, stage.validity.reasons) == ("VALID", [])


def test_an_overloaded_stage_says_so(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, [request(i, "q", i * 100, 200 + 20 * i, 100) for i in range(100)])
    assert stage.held is False
    assert stage.validity.level == "SUSPECT" and "the queue grew" in " ".join(
        stage.validity.reasons
    )
    assert "so latencies depend on how long the stage lasted" in " ".join(stage.notes)


@pytest.mark.parametrize("growing", [True, False])
@pytest.mark.parametrize(
    "goals",
    [
        Goals({"latency_p50": "60s"}),
        Goals({"error_rate": "10%"}),
        Goals(quality={"min": 0.5}),
        Goals(
            budget={
                "per_month": "$100",
                "requests_per_month": 100,
                "price": {"output_per_million": "$1"},
            }
        ),
    ],
)
def test_nothing_ships_on_a_stage_whose_queue_grew(
    tmp_path: Path, goals: Goals, growing: bool
) -> None:
    write_prompts(tmp_path, {f"q{i}": "yes" for i in range(100)})
    for block in (1, 2, 3):
        records = [
            request(i, f"q{i}", i * 100, 200 + 20 * i * growing + i % 3, 100, text="yes")
            for i in range(100)
        ]
        write_journal(tmp_path, "base", block, records)
    of = inputs(tmp_path, ["base"], goals)
    decision = judge(analyse(of), of).variants[0].decision
    assert decision == ("INCONCLUSIVE" if growing else "SHIP")


def test_what_fails_at_a_stage_whose_queue_grew_fails(tmp_path: Path) -> None:
    write_prompts(tmp_path, {f"q{i}": "yes" for i in range(100)})
    write_journal(
        tmp_path,
        "base",
        1,
        [request(i, f"q{i}", i * 100, 200 + 20 * i, 100, text="no") for i in range(100)],
    )
    of = inputs(tmp_path, ["base"], Goals(quality={"min": 0.5}))
    assert judge(analyse(of), of).variants[0].decision == "DON'T SHIP"


def test_a_block_that_was_cut_off_counts_the_time_it_ran(tmp_path: Path) -> None:
    """A block of 60 s, killed at 10 s when the answer to the request of 9.9 s came."""
    stage = stage_of(
        tmp_path,
        [request(i, "q", i * 100, 100, 50) for i in range(100)],
        window_ms=(0, 60_000),
        end=None,
    )
    assert stage.window_s == pytest.approx(10)
    assert stage.metrics["requests_per_s"].value == pytest.approx(
        9.9
    )  # the last one ends as the window does
    assert stage.metrics["achieved_rate"].value == pytest.approx(10)


def together(end_s: float, n: int = 26, every_s: float = 0.2) -> Requests:
    """Requests of 5 s that all end at once: the server works at all of them and finishes none."""
    return served([(end_s - every_s * i) * 1e3 for i in range(n)], every_s * 1e3)


def test_a_server_that_catches_up_when_nothing_more_arrives_did_not_hold_the_load() -> None:
    """Arrivals at 0, 0.2 ... 5 s, all ended at 6 s: 1 to 6 s each. None ended by 5 s.

    Without a trend, 21 x 22 / 2 of 26 x 26 pairs would fit: 8.9 of 26, 71 of 208 in eight blocks.
    """
    state = held([together(6.0)] * 8, offered=True)
    assert state.value is False
    assert "0 of 208 requests ended before the last arrival, where 71 would have" in (
        state.reason or ""
    )


def test_windows_shorter_than_the_answers_do_not_tell_whether_a_queue_grew() -> None:
    """All ended at 12 s: no answer fits before the last arrival at 5 s, with any server."""
    state = held([together(12.0)] * 8, offered=True)
    assert state.value is None
    assert state.reason == (
        "the blocks are too short to tell: requests arrived for 5.0 s a block and an answer took "
        "9.5 s, more or less by when in the block it was asked; write longer stages"
    )


def shared(rng: random.Random, capacity: int, load: float, n: int) -> Requests:
    """Requests of equal work under processor sharing, at most 1 s a second each."""
    at, ends = 0.0, [0.0] * n
    arrivals = [at := at + rng.expovariate(load * capacity) for _ in range(n)]
    left: dict[int, float] = {}
    now, following = 0.0, 0
    while following < n or left:
        speed = min(1.0, capacity / len(left)) if left else 1.0
        end = now + min(left.values()) / speed if left else float("inf")
        arrival = arrivals[following] if following < n else float("inf")
        passed = (min(end, arrival) - now) * speed
        left = {k: work - passed for k, work in left.items()}
        now = min(end, arrival)
        if end <= arrival:
            for k in [k for k, work in left.items() if work <= 1e-9]:
                ends[k] = now
                del left[k]
        else:
            left[following] = 1.0
            following += 1
    return requests_of(
        request(i, "q", a * 1e3, (e - a) * 1e3)
        for i, (a, e) in enumerate(zip(arrivals, ends, strict=True))
    )


def test_a_shared_server_is_told_to_be_overloaded_and_a_calm_one_is_not() -> None:
    rng = random.Random(5)
    overloaded = [
        held([shared(rng, 4, 1.5, 200) for _ in range(5)], offered=True).value for _ in range(10)
    ]
    calm = [
        held([shared(rng, 8, 0.7, 200) for _ in range(5)], offered=True).value for _ in range(10)
    ]
    assert overloaded.count(False) >= 9
    assert calm.count(True) >= 9


def test_nothing_is_shown_to_hold_where_it_is_not_known_whether_the_load_was(
    tmp_path: Path,
) -> None:
    write_prompts(tmp_path, {"q": "yes"})
    for block in range(1, 11):
        requests = [request(i, "q", 200.0 * i, 12_000 - 200.0 * i) for i in range(26)]
        write_journal(tmp_path, "base", block, requests, window_ms=(0, 5_200), offered_rate=5.0)
    run = inputs(tmp_path, ["base"], Goals({"latency_p95": "60s"}))
    summary = analyse(run)
    [stage] = summary.variants[0].stages
    assert stage.held is None and stage.validity.level == "SUSPECT"
    [verdict] = judge(summary, run).variants
    assert verdict.decision == "INCONCLUSIVE"
    assert verdict.objectives[0].sentence == (
        "latency p95 (limit: 60.0 s) can't be judged: it is not known whether the server kept up "
        "with the offered load"
    )


def test_why_a_load_was_not_held_is_said_once_however_many_objectives_it_leaves_open(
    tmp_path: Path,
) -> None:
    write_prompts(tmp_path, {"q": "yes"})
    for block in range(1, 11):
        requests = [request(i, "q", 200.0 * i, 12_000 - 200.0 * i) for i in range(26)]
        write_journal(tmp_path, "base", block, requests, window_ms=(0, 5_200), offered_rate=5.0)
    run = inputs(tmp_path, ["base"], Goals({"latency_p95": "60s", "error_rate": "5%"}))
    [verdict] = judge(analyse(run), run).variants
    assert [o.outcome for o in verdict.objectives] == ["unsettled", "unsettled"]
    why = "requests arrived for 5.0 s a block"
    [reason] = [reason for reason in verdict.reasons if why in reason]
    assert reason.startswith("SUSPECT: ")


@pytest.mark.parametrize(("t", "grew"), [(2.6, True), (2.1, False)])
def test_a_slope_is_a_queues_where_it_is_beyond_chance_at_one_per_cent(
    t: float, grew: bool
) -> None:
    """Latency rises by 0.1 s a second in 400 requests; the noise puts the slope at `t` errors."""
    at = np.arange(400) / 10
    basis = np.linalg.qr(np.column_stack([np.ones(400), at]))[0]
    noise = np.random.default_rng(1).normal(size=400)
    noise -= basis @ (basis.T @ noise)
    error = np.sqrt(noise @ noise / 398 / (400 * np.var(at)))
    block = served((60 + 0.1 * at + noise * 0.1 / t / error) * 1e3)
    lag, slope = growth([block])
    assert lag == pytest.approx(0.1, abs=1e-6)
    assert slope is grew


@given(some.lists(some.floats(10, 5_000), min_size=20, max_size=60))
def test_the_lag_of_a_block_is_the_slope_of_a_regression(latencies: list[float]) -> None:
    theirs = stats.linregress(np.arange(len(latencies)) / 10, np.array(latencies) / 1e3).slope
    assert growth([served(latencies)])[0] == pytest.approx(theirs, rel=1e-6, abs=1e-6)


def test_in_windows_too_short_to_tell_answers_that_differ_between_quarters_say_so() -> None:
    """80 requests in 8 s; the first quarter take 2 s except the very first, the others 10 s."""
    latencies = [10_000.0, *[2_000.0] * 19, *[10_000.0] * 60]
    assert "by when in the block it was asked" in (too_short([served(latencies)]) or "")
    assert too_short([served([10_000.0, 9_990.0] * 40)]) is None
