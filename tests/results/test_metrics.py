"""Metrics against journals small enough to work out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from foundation.run.journal import Journal, read_journal
from foundation.run.records import RequestRecord
from results.analysis import analyse
from results.measures.stage_metrics import stage_metrics
from results.measures.stage_notes import doubts
from results.measures.steady_state import StageData, block_of
from results.measures.window import window_of
from results.metrics import METRICS
from results.summary import Estimate, StageSummary
from tests.results.synthetic import MS, Goals, inputs, request, write_journal


def stage_of(
    run: Path,
    records: list[RequestRecord],
    limits: dict[str, float] | None = None,
    **journal: object,
) -> dict[str, Estimate]:
    read = read_journal(write_journal(run, "base", 1, records, **journal))
    assert isinstance(read, Journal)
    return stage_metrics(
        StageData("main", read.header.offered_rate, read.header.concurrency, [block_of(read)]),
        limits or {},
    )


def test_one_request_by_hand(tmp_path: Path) -> None:
    """Due at 100 ms, sent at 103; chunks of 1, 2 and 1 tokens at 150, 170 and 210 ms; 12 in."""
    record = RequestRecord(
        id=0,
        prompt_id="a",
        scheduled_ns=100 * MS,
        sent_ns=103 * MS,
        chunk_ns=[150 * MS, 20 * MS, 40 * MS],
        chunk_tokens=[1, 2, 1],
        done_ns=211 * MS,
        status=200,
        finish_reason="stop",
        input_tokens=12,
        output_tokens=4,
        tokens_from="server",
        client_lag_ns=[MS, 2 * MS, 3 * MS],
    )
    stage = stage_of(tmp_path, [record], window_ms=(0, 1000))
    by_hand = {
        "latency_mean": 110.0,  # 210 - 100
        "service_latency_mean": 107.0,  # 210 - 103
        "ttft_mean": 50.0,  # 150 - 100
        "service_ttft_mean": 47.0,  # 150 - 103
        "tpot_mean": 20.0,  # (210 - 150) / 3
        "itl_mean": 20.0,  # 20, 0, 40
        "icl_mean": 30.0,  # 20, 40
        "slip_mean": 3.0,
        "client_lag_mean": 2.0,
        "input_tokens_mean": 12.0,
        "output_tokens_mean": 4.0,
        "total_tokens_mean": 16.0,
        "requests_per_s": 1.0,
        "output_tokens_per_s": 4.0,
        "total_tokens_per_s": 16.0,
        "achieved_rate": 1.0,
        "error_rate": 0.0,
        "in_flight": 0.108,  # sent at 103, done at 211, over a second
    }
    assert {key: stage[key].value for key in by_hand} == pytest.approx(by_hand)


def test_only_the_steady_window_counts(tmp_path: Path) -> None:
    """Scheduled in [1 s, 2 s) counts for latency; ended in [1 s, 2 s) counts for throughput."""
    records = [
        request(0, "a", 500, 100),  # before, ended before
        request(1, "b", 900, 300),  # before, ended inside at 1200
        request(2, "c", 1000, 200),  # inside, ended inside
        request(3, "d", 1900, 400),  # inside, ended after
        request(4, "e", 2000, 100),  # after
    ]
    stage = stage_of(tmp_path, records, window_ms=(1000, 2000))
    assert stage["latency_mean"].value == pytest.approx(300)  # 200 and 400
    assert stage["latency_mean"].n == 2
    assert stage["requests_per_s"].value == pytest.approx(2)  # the ones that ended at 1200 twice
    assert stage["achieved_rate"].value == pytest.approx(2)


def test_a_closed_loop_ends_with_its_end_line_or_with_what_was_seen(tmp_path: Path) -> None:
    records = [request(0, "a", 0, 100), request(1, "b", 100, 150)]
    whole = read_journal(
        write_journal(
            tmp_path, "base", 1, records, offered_rate=None, concurrency=1, window_ms=(0, 250)
        )
    )
    cut = read_journal(
        write_journal(tmp_path, "base", 2, records, offered_rate=None, concurrency=1, end=None)
    )
    assert isinstance(whole, Journal) and isinstance(cut, Journal)
    assert window_of(whole) == (0, 250 * MS)
    assert window_of(cut) == (0, 250 * MS)


def test_percentiles_are_of_successes_and_adjusted_ones_of_all(tmp_path: Path) -> None:
    """100 requests of 1 to 100 ms; then the slowest 10 fail."""
    fine = [request(i, f"p{i}", 10 * i, i + 1, 1) for i in range(100)]
    failed = [
        r if i < 90 else request(i, f"p{i}", 10 * i, i + 1, failure="timeout_total")
        for i, r in enumerate(fine)
    ]

    stage = stage_of(tmp_path, fine)
    assert stage["latency_p50"].value == pytest.approx(50.5)
    assert stage["latency_p90"].value == pytest.approx(90.1)
    assert stage["adjusted_latency_p90"].value == pytest.approx(90.1)
    assert stage["latency_p95"].value is None
    assert stage["latency_p95"].reason == "p95 needs at least 200 requests, there are 100"

    stage = stage_of(tmp_path / "failed", failed)
    assert stage["latency_p50"].value == pytest.approx(45.5)  # of 1 to 90
    assert stage["adjusted_latency_p50"].value == pytest.approx(50.5)  # of all 100
    assert stage["latency_p90"].value is None  # 90 successes, and the floor is 100
    assert stage["adjusted_latency_p90"].value is None  # would rest on the 91st, a failure
    assert "infinite" in (stage["adjusted_latency_p90"].reason or "")
    assert stage["error_rate"].value == pytest.approx(0.1)


def test_goodput_and_attainment_count_failures_as_missed(tmp_path: Path) -> None:
    records = [
        request(i, f"p{i}", 100 * i, 10 if i < 6 else 90, 5, output_tokens=3) for i in range(9)
    ]
    records.append(request(9, "p9", 900, 10, failure="http_5xx"))
    stage = stage_of(tmp_path, records, {"latency": 50.0}, window_ms=(0, 2000))
    assert stage["slo_attainment"].value == pytest.approx(0.6)
    assert stage["goodput"].value == pytest.approx(3.0)  # 6 in 2 s
    assert stage_of(tmp_path, records)["goodput"].value is None


def test_littles_law_holds_for_a_steady_stream(tmp_path: Path) -> None:
    """A request every 100 ms that takes 250 ms: 2.5 in flight."""
    records = [request(i, "p", 100 * i, 250, 50) for i in range(60)]
    stage = stage_of(tmp_path, records, window_ms=(1000, 5000))
    assert stage["in_flight"].value == pytest.approx(2.5)
    assert stage["little_ratio"].value == pytest.approx(1.0)


def test_littles_law_holds_for_answers_that_end_long_after_their_last_text(tmp_path: Path) -> None:
    """Text after 60 ms, the end after 100, a request every 20 ms: 5 in flight; latency says 3."""
    records = [request(i, "p", 20 * i, 60, 50) for i in range(100)]
    for record in records:
        record.done_ns = record.scheduled_ns + 100_000_000
    stage = stage_of(tmp_path, records, window_ms=(200, 1800))
    assert stage["in_flight"].value == pytest.approx(5.0)
    assert stage["little_ratio"].value == pytest.approx(1.0)


def test_an_answer_without_tokens_has_no_latency(tmp_path: Path) -> None:
    records = [request(i, "p", 100 * i, 50, 50, output_tokens=0) for i in range(20)]
    stage = stage_of(tmp_path, records, {"latency": 100.0})
    assert stage["latency_p50"].value is None
    assert stage["adjusted_latency_p50"].value is None
    assert stage["output_tokens_mean"].value == 0
    assert stage["slo_attainment"].value == 0
    read = read_journal(write_journal(tmp_path, "base", 1, records))
    assert isinstance(read, Journal)
    assert "20 answers were empty" in " ".join(
        doubts(StageData("main", 10.0, None, [block_of(read)]))
    )


def summary_of(run: Path, goals: Goals | None = None) -> StageSummary:
    return analyse(inputs(run, ["base"], goals)).variants[0].stages[0]


def test_a_variant_that_only_fails_is_said_to(tmp_path: Path) -> None:
    write_journal(
        tmp_path, "base", 1, [request(i, "p", 10 * i, 1, failure="connect") for i in range(30)]
    )
    stage = summary_of(tmp_path)
    assert stage.failures == {"connect": 30}
    assert stage.metrics["latency_mean"].value is None
    assert stage.metrics["requests_per_s"].value == 0
    assert "all 30 requests failed (connect 30)" in " ".join(stage.notes)


def test_a_late_client_makes_the_measurement_invalid(tmp_path: Path) -> None:
    write_journal(
        tmp_path, "base", 1, [request(i, "p", 10 * i, 100, 50, slip_ms=40) for i in range(30)]
    )
    assert summary_of(tmp_path).validity.level == "INVALID"
    write_journal(
        tmp_path, "base", 1, [request(i, "p", 10 * i, 100, 50, slip_ms=1) for i in range(30)]
    )
    assert summary_of(tmp_path).validity.level == "VALID"


def test_a_queue_that_grows_is_noted(tmp_path: Path) -> None:
    """10 arrive a second, 5 are answered."""
    write_journal(
        tmp_path, "base", 1, [request(i, "p", 100 * i, 100 * i + 200, 50) for i in range(100)]
    )
    assert "was not held" in " ".join(summary_of(tmp_path).notes)
    write_journal(tmp_path, "base", 1, [request(i, "p", 100 * i, 200, 50) for i in range(100)])
    assert "was not held" not in " ".join(summary_of(tmp_path).notes)


def test_every_number_of_a_stage_has_its_definition(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, [request(i, "p", 100 * i, 50, 20) for i in range(30)])
    assert stage.keys() <= METRICS.keys()
    for key, estimate in stage.items():
        assert (estimate.value is None) == (estimate.reason is not None) or "interval" in (
            estimate.reason or ""
        ), key
        assert estimate.value is None or math.isfinite(estimate.value)
        if estimate.low is not None and estimate.high is not None and estimate.value is not None:
            assert estimate.low <= estimate.value <= estimate.high, key
