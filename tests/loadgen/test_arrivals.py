"""Schedules: whole, sorted, seeded, of the rate asked for and of the distribution named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from loadgen.config import Stage, WorkloadConfig
from loadgen.schedule.arrivals import planned_requests, schedule
from loadgen.schedule.rate_profiles import Ramp


def stage(**fields: Any) -> Stage:
    return Stage.model_validate(fields)


def test_constant_arrivals_are_evenly_spaced_and_fill_the_window() -> None:
    timetable = schedule(
        stage(rate=4, arrivals="constant", duration="1s"), seed=1, block=1, warmup=0.5
    )
    assert timetable.times_ns.tolist() == [
        0,
        250_000_000,
        500_000_000,
        750_000_000,
        1_000_000_000,
        1_250_000_000,
    ]
    assert (timetable.window_start_ns, timetable.window_end_ns) == (500_000_000, 1_500_000_000)


def test_a_counted_constant_window_is_exactly_count_over_rate_long() -> None:
    timetable = schedule(
        stage(rate=4, arrivals="constant", requests=8), seed=1, block=1, warmup=1.0
    )
    assert timetable.window_end_ns - timetable.window_start_ns == 2_000_000_000
    assert len(timetable.times_ns) == 4 + 8


@given(
    rate=st.floats(0.05, 5000),
    requests=st.integers(1, 500),
    warmup=st.sampled_from([0.0, 0.3, 2.0]),
    arrivals=st.sampled_from(["poisson", "constant"]),
    block=st.integers(1, 20),
)
def test_a_counted_window_holds_its_count(
    rate: float, requests: int, warmup: float, arrivals: str, block: int
) -> None:
    of = stage(rate=rate, arrivals=arrivals, requests=requests)
    timetable = schedule(of, seed=3, block=block, warmup=warmup)
    times = timetable.times_ns
    inside = (times >= timetable.window_start_ns) & (times < timetable.window_end_ns)
    assert inside.sum() == requests
    assert inside[-requests:].all()
    assert (np.diff(times) >= 0).all() and times[0] >= 0
    assert planned_requests(of, 3, block, warmup) == len(times)


def test_poisson_gaps_are_exponential_and_counts_are_poisson() -> None:
    times = schedule(stage(rate=100, requests=20_000), seed=5, block=1, warmup=0).times_ns / 1e9
    assert stats.kstest(np.diff(times), stats.expon(scale=0.01).cdf).pvalue > 0.01
    counts = np.histogram(times, np.arange(0, int(times[-1])))[0]
    dispersion = counts.var(ddof=1) / counts.mean()
    assert 0.01 < stats.chi2(len(counts) - 1).cdf(dispersion * (len(counts) - 1)) < 0.99


def test_the_same_seed_and_block_give_the_same_schedule_and_others_do_not() -> None:
    of = stage(rate=10, duration="20s")
    one = schedule(of, 7, 1, 1.0)
    assert (one.times_ns == schedule(of, 7, 1, 1.0).times_ns).all()
    for other in (
        schedule(of, 7, 2, 1.0),
        schedule(of, 8, 1, 1.0),
        schedule(stage(name="b", rate=10, duration="20s"), 7, 1, 1.0),
    ):
        assert one.times_ns.tolist() != other.times_ns.tolist()


def test_the_stage_own_warmup_goes_before_the_workload_s() -> None:
    assert (
        schedule(stage(rate=10, duration="1s", warmup="3s"), 0, 1, 1.0).window_start_ns
        == 3_000_000_000
    )


def test_offered_load_of_counted_windows_is_unbiased() -> None:
    of = stage(rate=10, requests=5)
    rates = [
        5e9 / (timetable.window_end_ns - timetable.window_start_ns)
        for timetable in (schedule(of, 0, block, 0.0) for block in range(4000))
    ]
    assert np.mean(rates) == pytest.approx(10, abs=4 * np.std(rates) / len(rates) ** 0.5)


@given(
    shape=st.sampled_from(
        [
            {"rate_to": 50.0, "steps": 4},
            {"rate_to": 1.0, "steps": 2},
            {"rate_to": 50.0},
            {"rate_to": 0.5},
            {"rate_to": 5.0},
            {"bursts": {"on": "0.5s", "off": "2s"}},
            {},
        ]
    ),
    arrivals=st.sampled_from(
        [
            {"arrivals": "constant"},
            {"arrivals": "poisson"},
            {"arrivals": "gamma", "burstiness": 0.3},
        ]
    ),
    warmup=st.sampled_from([0.0, 1.3]),
    block=st.integers(1, 30),
)
def test_shaped_schedules_are_sorted_and_fill_their_window(
    shape: dict[str, object], arrivals: dict[str, object], warmup: float, block: int
) -> None:
    timetable = schedule(stage(rate=5, duration="20s", **shape, **arrivals), 2, block, warmup)
    assert (np.diff(timetable.times_ns) >= 0).all()
    assert timetable.times_ns[0] >= 0 and timetable.times_ns[-1] < timetable.window_end_ns
    assert timetable.window_end_ns - timetable.window_start_ns == 20_000_000_000


@given(rate=st.floats(0.1, 100), to=st.floats(0.1, 100), start=st.floats(0, 5), at=st.floats(0, 40))
def test_a_ramp_s_clock_runs_both_ways(rate: float, to: float, start: float, at: float) -> None:
    ramp = Ramp(rate, to, start, 10.0)
    assert ramp.when(np.array([ramp.expected(at)]))[0] == pytest.approx(at, abs=1e-6)


def test_a_ramp_climbs_in_a_straight_line() -> None:
    times = (
        schedule(
            stage(rate=10, rate_to=100, arrivals="constant", duration="100s"), 0, 1, 0.0
        ).times_ns
        / 1e9
    )
    counts = np.histogram(times, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100])[0]
    expected = [10 * (10 + 90 * (i + 0.5) / 10) for i in range(10)]
    assert np.abs(counts - expected).max() <= 1


def test_steps_are_of_equal_length_and_of_the_rates_between() -> None:
    of = stage(rate=10, rate_to=40, steps=4, arrivals="constant", duration="100s", warmup="5s")
    times = schedule(of, 0, 1, 0.0).times_ns / 1e9
    counts = np.histogram(times, [0, 5, 30, 55, 80, 105])[0]
    assert np.abs(counts - np.array([50, 250, 500, 750, 1000])).max() <= 1


def test_bursts_keep_the_mean_rate_and_their_rests() -> None:
    timetable = schedule(
        stage(rate=20, bursts={"on": "1s", "off": "3s"}, duration="400s"), 0, 1, 0.0
    )
    times = timetable.times_ns / 1e9
    assert (times % 4 <= 1).all()
    assert len(times) == pytest.approx(20 * 400, abs=4 * (20 * 400) ** 0.5)
    assert stats.kstest(times % 4, stats.uniform(0, 1).cdf).pvalue > 0.01


def test_gamma_gaps_have_the_burstiness_named() -> None:
    times = (
        schedule(
            stage(rate=100, arrivals="gamma", burstiness=0.25, requests=20_000), 0, 1, 0.0
        ).times_ns
        / 1e9
    )
    assert stats.kstest(np.diff(times), stats.gamma(0.25, scale=0.04).cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"concurrency": 4, "duration": "1s", "rate_to": 5}, "belongs to a rate"),
        ({"rate": 4, "duration": "1s", "arrivals": "gamma"}, "go together"),
        ({"rate": 4, "duration": "1s", "burstiness": 2}, "go together"),
        ({"rate": 4, "requests": 10, "rate_to": 8}, "needs a duration"),
        ({"rate": 4, "duration": "9s", "steps": 3}, "lead to a rate_to"),
        ({"rate": 4, "duration": "1s", "bursts": {"on": "0s", "off": "1s"}}, "above zero"),
        ({"rate": 4, "duration": "1s", "think": "1s"}, "belongs to concurrency"),
        ({"concurrency": 4, "duration": "1s", "mix": "uniform"}, "mix belongs to a rate"),
        ({"rate": 4, "duration": "1s", "mix": "even"}, "mix"),
        ({"rate": 4, "duration": "1s", "mix": {"uniform": True, "zipf": 1}}, "mix: uniform, or"),
    ],
)
def test_a_stage_that_makes_no_sense_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        WorkloadConfig.model_validate({"stages": [fields]})
