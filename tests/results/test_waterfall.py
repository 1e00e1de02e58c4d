"""Where the time of requests goes, against stamps that were chosen, and against scipy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from foundation.run.engine_times import ENGINE_RECORD, EngineTimes
from foundation.run.journal import Journal
from foundation.run.records import JournalEnd
from foundation.run.requests import requests_of
from results.analysis import analyse
from results.decision.verdict import judge
from results.measures.steady_state import StageData, block_of
from results.measures.waterfall import LATENCY_SEGMENTS, Detail, block_segments, waterfall
from results.summary import Waterfall
from tests.results.synthetic import Goals, inputs, write_prompts
from tests.results.timed_requests import Times, stage, write
from tests.run_files import (
    MS,
    header,
)


def divided(run: Path) -> Waterfall:
    result = stage(run).waterfall
    assert result is not None
    return result


def means(result: Waterfall) -> dict[str, float | None]:
    return {key: each.mean.value for key, each in result.segments.items()}


def test_a_record_gives_every_segment(tmp_path: Path) -> None:
    write(tmp_path, "base", [[Times(), Times(queued=30.0)], [Times(), Times(slip=3.0)]])
    result = divided(tmp_path)
    assert (result.source, result.n, result.succeeded, result.notes) == ("engine record", 4, 4, [])
    assert means(result) == pytest.approx(
        {
            "slip": 1.5, "before_queue": 4.0, "queued": 15.0, "prefill": 20.0, "decode": 50.0,
            "end_of_answer": 6.0, "client_lag": 0.5, "unexplained": 2.0,
        }
    )  # fmt: skip
    assert list(result.segments)[:5] == ["slip", "before_queue", "queued", "prefill", "decode"]
    assert result.latency.value == pytest.approx(92.5)
    assert result.total.value == pytest.approx(99.0)
    assert result.segments["queued"].share.value == pytest.approx(15 / 99)
    shares = [each.share.value for each in result.segments.values()]
    assert sum(share for share in shares if share is not None) == pytest.approx(1)


def test_a_share_lies_between_0_and_1(tmp_path: Path) -> None:
    """One late request of six: t over the blocks alone would allow less than nothing."""
    write(tmp_path, "base", [[Times(slip=0.0)] * 2, [Times(slip=0.0)] * 2,
                             [Times(slip=40.0), Times(slip=0.0)]])  # fmt: skip
    share = divided(tmp_path).segments["slip"].share
    assert share.low == 0 and share.value == pytest.approx(40 / 595) and share.high is not None


@pytest.mark.parametrize(("by", "source"), [("traces", "traces"), ("metrics", "response metrics")])
def test_durations_leave_nothing_unexplained(tmp_path: Path, by: str, source: str) -> None:
    write(tmp_path, "base", [[Times()] * 2, [Times()] * 2], by)
    result = divided(tmp_path)
    assert result.source == source
    assert means(result) == pytest.approx(
        {
            "slip": 1.0, "before_queue": 6.0, "queued": 10.0, "prefill": 20.0, "decode": 50.0,
            "end_of_answer": 6.0, "client_lag": 0.5, "unexplained": 0.0,
        }
    )  # fmt: skip
    assert "the way back of the first token" in result.notes[0]


def test_without_the_server_the_client_sees_its_own_segments(tmp_path: Path) -> None:
    write(tmp_path, "base", [[Times()] * 2, [Times()] * 2], "nobody", kernel=False)
    result = divided(tmp_path)
    assert result.source == "client"
    assert means(result) == {
        "slip": 1.0, "before_first": 36.0, "decode": 50.0, "end_of_answer": 6.0,
        "client_lag": None,
    }  # fmt: skip
    assert result.total.value == pytest.approx(93.0)
    assert "the client sees" in result.notes[0]
    assert result.notes[1].startswith("client lag is not in it")
    assert "kernel" in str(result.segments["client_lag"].p95.reason)


def test_answers_without_times_are_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path, "base", [[Times()] * 5, [Times()] * 5])
    file = tmp_path / "engine" / "base.jsonl"
    rows = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(rows[:-3]))
    result = divided(tmp_path)
    assert (result.n, result.succeeded) == (7, 10)
    assert result.notes == [
        "3 of 10 answers have no such times inside the server; they are left out"
    ]
    file.write_bytes(b"".join(rows[:3]))
    assert divided(tmp_path).source == "client"


def test_negative_segments_are_kept_and_said(tmp_path: Path) -> None:
    write(tmp_path, "base", [[Times(), Times(unexplained=-5.0)], [Times()] * 2])
    result = divided(tmp_path)
    assert result.segments["unexplained"].mean.value == pytest.approx((3 * 2 - 5) / 4)
    assert result.notes == [
        "unexplained is below zero in 1 request, down to −5.00 ms: the last token waited that long "
        "on its way out of the engine, and time before the queue is as much too long; or a clock "
        "was set"
    ]


def test_times_that_contradict_the_client_are_left_out_and_said(tmp_path: Path) -> None:
    write(tmp_path, "base", [[Times(), Times(before_queue=-9.0)], [Times()] * 3])
    result = divided(tmp_path)
    assert (result.n, result.succeeded) == (4, 5)
    assert any("from before the request was sent" in note for note in result.notes)


def test_intervals_are_student_s_over_the_blocks(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    queued = random.uniform(5, 30, (4, 6)).round(3)
    write(tmp_path, "base", [[Times(queued=float(ms)) for ms in block] for block in queued])
    estimate = divided(tmp_path).segments["queued"].mean
    low, high = stats.t.interval(
        0.95, 3, queued.mean(), stats.sem([block.mean() for block in queued])
    )
    assert [estimate.value, estimate.low, estimate.high] == pytest.approx(
        [queued.mean(), low, high]
    )


def test_percentiles_keep_their_floors(tmp_path: Path) -> None:
    write(tmp_path, "base", [[Times()] * 15, [Times(prefill=40.0)] * 10])
    prefill = divided(tmp_path).segments["prefill"]
    assert prefill.p50.value == 20.0
    assert prefill.p95.value is None
    assert prefill.p95.reason == "p95 needs at least 200 requests, there are 25"


stamp = st.integers(0, 10**9)


@given(
    rows=st.lists(st.tuples(*[stamp] * 8), min_size=1, max_size=5),
    detail=st.sampled_from(list(Detail)),
)
def test_segments_add_up_to_a_microsecond(rows: list[tuple[int, ...]], detail: Detail) -> None:
    records = [Times(*(ns / MS for ns in row)).record(i) for i, row in enumerate(rows)]
    ns = np.array(rows, dtype=np.float64)
    engine = EngineTimes(
        queued=ns[:, 2],
        prefill=ns[:, 3],
        decode=ns[:, 5],
        finished=np.arange(len(rows)) * 100 * MS + ns[:, [0, 1, 2, 3, 5]].sum(axis=1),
        source=np.full(len(rows), ENGINE_RECORD, np.int8),
    )
    requests = replace(requests_of(records), engine=engine)
    end = JournalEnd(end="complete", ended_ns=10**10, window_end_ns=10**10)
    parts = block_segments(block_of(Journal(header(), requests, end)), detail)
    latency = ns[:, :6].sum(axis=1)
    until_last = [place for place, key in enumerate(parts.keys) if key in LATENCY_SEGMENTS]
    assert len(parts) == len(rows)
    for sums, whole in (
        (parts.values[:, until_last].sum(axis=1), latency),
        (parts.latency, latency),
        (parts.values.sum(axis=1), ns.sum(axis=1)),
        (parts.total, ns.sum(axis=1)),
    ):
        assert np.abs(sums * MS - whole).max() < 1000
    if detail is Detail.MOMENTS:
        chosen = ns[:, [0, 1, 2, 3, 5, 6, 7, 4]]
        assert np.abs(parts.values * MS - chosen).max() < 1000


@pytest.mark.parametrize(
    ("by", "queued", "metric", "limit", "decision"),
    [
        ("record", 10.0, "queue_p95", "11ms", "SHIP"),
        ("record", 0.0, "queue_p95", "1ms", "SHIP"),
        ("record", 10.0, "queue_p95", "9ms", "DON'T SHIP"),
        ("metrics", 10.0, "prefill_p95", "21ms", "SHIP"),
        ("record", 10.0, "wait_p95", "5ms", "SHIP"),
        ("metrics", 10.0, "wait_p95", "5ms", "INCONCLUSIVE"),
        ("nobody", 10.0, "queue_p95", "11ms", "INCONCLUSIVE"),
    ],
)
def test_an_objective_inside_the_server(
    tmp_path: Path, by: str, queued: float, metric: str, limit: str, decision: str
) -> None:
    times = [Times(queued=queued)] * 100
    write(tmp_path, "base", [times, times], by)
    write_prompts(tmp_path, {f"q{i}": "ok" for i in range(100)})
    of = inputs(tmp_path, ["base"], Goals(slo={metric: limit}))
    (verdict,) = judge(analyse(of), of).variants
    assert verdict.decision == decision
    (objective,) = verdict.objectives
    if decision == "INCONCLUSIVE":
        assert objective.value.value is None
        assert "answers have" in objective.sentence
    if decision == "DON'T SHIP":
        advice = {each.remedy: each.why for each in verdict.advice}
        assert "10.0 ms pass in the server's queue" in advice["Serve it with more replicas"]


def test_a_stage_without_answers_has_no_waterfall() -> None:
    assert waterfall(StageData("main", 1.0, None, [])) is None
