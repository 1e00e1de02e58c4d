"""The rig's own arithmetic, and that it can drive and read both of our transports."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measuring_path.executables import AIPerf, GuideLLM, VllmRustBench
from benchmarks.measuring_path.run import measure
from benchmarks.measuring_path.score import (
    Score,
    errors_us,
    firsts_us,
    from_promptest,
    rate_of,
    span_ns,
    table,
)
from benchmarks.measuring_path.tool import Load
from benchmarks.measuring_path.tools import Tunedyno

TRUTH = {"a": {"event_ns": [1000, 3000]}, "b": {"event_ns": [2000]}, "c": {"event_ns": [500]}}


def test_errors_are_arrival_less_write_of_what_is_on_record() -> None:
    arrivals = {"a": np.array([2000.0, 8000.0, 9000.0]), "b": np.array([2000.0])}
    assert errors_us(TRUTH, arrivals).tolist() == [1.0, 5.0, 0.0]
    assert firsts_us(TRUTH, arrivals) == [1.0, 0.0]
    assert span_ns(TRUTH) == (500, 3000)
    assert rate_of(
        {"a": {"event_ns": [0, 1000, 2000]}, "b": {"event_ns": [500, 1500, 2500]}}
    ) == pytest.approx(3 / 1500e-9)


def test_a_row_is_the_median_of_its_runs_with_the_best_p99() -> None:
    runs = [
        Score("t", 2, 100.0, 99.0, 10, cpu, 0.5, 6.0, 7.0, 1.0, p99, 9.0, 0, 50.0)
        for cpu, p99 in ((1.0, 10.0), (3.0, 30.0), (2.0, 5.0))
    ]
    assert (
        table(runs).splitlines()[-1]
        == "| 2 | 100 (99) | t | 2.0 (0.5) | 0.01 | 7 | 1 | 10 (5) | 9 | 50 |"
    )


def test_a_table_says_below_what_a_record_leaves_out() -> None:
    noted, plain = (
        Score(name, 2, 1.0, 1.0, 1, *[1.0] * 7, 0, 1.0, note)
        for name, note in (("t", "no clock"), ("u", ""))
    )
    assert table([noted, plain, noted]).splitlines()[4:] == ["", "t: no clock."]


def test_events_that_a_tool_did_not_record_are_not_scored() -> None:
    truth = {"a": {"event_ns": [1000, 2000, 3000]}}
    assert errors_us(truth, {"a": np.array([1000.0, np.nan, 8000.0])}).tolist() == [0.0, 5.0]


def test_times_from_an_unknown_origin_are_moved_to_the_earliest_that_is_possible() -> None:
    arrivals = {"a": np.array([70_000.0, 75_000.0]), "b": np.array([69_000.0])}
    assert errors_us(TRUTH, from_promptest(TRUTH, arrivals)).tolist() == [2.0, 5.0, 0.0]


def test_guidellm_is_read_by_the_first_and_last_event_of_those_that_succeeded(
    tmp_path: Path,
) -> None:
    out, wall, now = tmp_path / "result.json", time.time(), time.monotonic_ns()
    request = {
        "request_args": json.dumps({"body": {"prompt": "stream 0", "max_tokens": 3}}),
        "info": {
            "timings": {
                "request_start": wall - 9,
                "first_token_iteration": wall - 2,
                "last_token_iteration": wall - 1,
            }
        },
    }
    failed = {"request_args": None, "info": {"timings": {"first_token_iteration": None}}}
    out.write_text(
        json.dumps(
            {
                "benchmarks": [
                    {"requests": {"successful": [request], "errored": [failed], "incomplete": []}}
                ]
            }
        )
    )
    arrivals = GuideLLM("guidellm").arrivals(Load(2, 3), out)
    assert arrivals.keys() == {"stream 0"}
    assert np.isnan(arrivals["stream 0"]).tolist() == [False, True, False]
    assert arrivals["stream 0"][[0, 2]] == pytest.approx([now - 2e9, now - 1e9], abs=1e7)


def test_aiperf_is_read_by_every_event_of_its_raw_records(tmp_path: Path) -> None:
    heard = [
        {"perf_ns": at, "packets": [{"name": "data", "value": "{}"}]}
        for at in (5_000_000_100, 5_000_000_200)
    ]
    good = {
        "start_perf_ns": 5_000_000_000,
        "payload": {"prompt": "stream 1"},
        "status": 200,
        "responses": heard,
    }
    bad = {
        "payload": {"prompt": "stream 0"},
        "responses": [],
        "error": {"code": 500, "message": "no"},
    }
    (tmp_path / "profile_export_raw.jsonl").write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n")
    arrivals = AIPerf("aiperf").arrivals(Load(2, 2), tmp_path / "result.json")
    assert {prompt: stamps.tolist() for prompt, stamps in arrivals.items()} == {
        "stream 1": [5_000_000_100, 5_000_000_200]
    }


def test_vllms_rust_bench_is_read_by_its_start_and_gaps(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    out.write_text(
        json.dumps({"start_times": [0.5, 0.0], "ttfts": [0.25, 0.0], "itls": [[0.125, 0.5], []]})
    )
    arrivals = VllmRustBench("vllm-rs").arrivals(Load(2, 3), out)
    assert {prompt: stamps.tolist() for prompt, stamps in arrivals.items()} == {
        "stream 0": [0.75e9, 0.875e9, 1.375e9]
    }


@pytest.mark.parametrize("transport", ["socket", "aiohttp"])
def test_a_small_run_loses_nothing_and_no_event_arrives_before_it_was_sent(transport: str) -> None:
    score = measure(Tunedyno(transport), rate=1000, streams=20, seconds=0.3)
    assert score.lost == 0
    assert score.p50 > -100 and score.p99 >= score.p50
    assert score.cpu_us > 0 and score.peak_mb > 10
