"""The rig's own arithmetic, and that it can drive and read both of our transports."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.measuring_path.run import measure
from benchmarks.measuring_path.score import Score, errors_us, firsts_us, rate_of, span_ns, table
from benchmarks.measuring_path.tools import Tunedyno

TRUTH = {"a": {"event_ns": [1000, 3000]}, "b": {"event_ns": [2000]}, "c": {"event_ns": [500]}}


def test_errors_are_arrival_less_write_of_what_is_on_record() -> None:
    arrivals = {"a": np.array([2000.0, 8000.0, 9000.0]), "b": np.array([2000.0])}
    assert errors_us(TRUTH, arrivals).tolist() == [1.0, 5.0, 0.0]
    assert firsts_us(TRUTH, arrivals) == [1.0, 0.0]
    assert span_ns(TRUTH) == (500, 3000)
    assert rate_of({"a": {"event_ns": [0, 1000, 2000]}, "b": {"event_ns": [500, 1500, 2500]}}) == pytest.approx(3 / 1500e-9)


def test_a_row_is_the_median_of_its_runs_with_the_best_p99() -> None:
    runs = [
        Score("t", 2, 100.0, 99.0, 10, cpu, 0.5, 6.0, 7.0, 1.0, p99, 9.0, 0, 50.0)
        for cpu, p99 in ((1.0, 10.0), (3.0, 30.0), (2.0, 5.0))
    ]
    assert table(runs).splitlines()[-1] == "| 2 | 100 (99) | t | 2.0 (0.5) | 0.01 | 7 | 1 | 10 (5) | 9 | 50 |"


@pytest.mark.parametrize("transport", ["socket", "aiohttp"])
def test_a_small_run_loses_nothing_and_no_event_arrives_before_it_was_sent(transport: str) -> None:
    score = measure(Tunedyno(transport), rate=1000, streams=20, seconds=0.3)
    assert score.lost == 0
    assert score.p50 > -100 and score.p99 >= score.p50
    assert score.cpu_us > 0 and score.peak_mb > 10
