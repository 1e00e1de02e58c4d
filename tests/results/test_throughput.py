"""Rates of requests: in their range, above 0 if any answer came, and apart from session rates."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from foundation.run.records import Prompt
from results.analysis import analyse
from results.summary import StageSummary
from tests.results.synthetic import Goals, inputs, request, write_journal


def stage_of(run: Path, goals: Goals | None = None) -> StageSummary:
    return analyse(inputs(run, ["base"], goals)).variants[0].stages[0]


def test_where_nothing_can_end_inside_the_window_the_answers_are_over_the_time_they_took(
    tmp_path: Path,
) -> None:
    """20 requests in 2 s; the first ends after 5 s, then one a second: 20 over 24 s a block."""
    records = [request(i, "q", i * 100, 5_000 + i * 900, 100, output_tokens=6) for i in range(20)]
    for block in (1, 2):
        write_journal(tmp_path, "base", block, records, window_ms=(0, 2_000))
    metrics = stage_of(tmp_path).metrics
    rate = metrics["requests_per_s"]
    assert (rate.value, rate.n) == (pytest.approx(20 / 24), 40)
    assert rate.low is not None and rate.low >= 0
    assert "no answer ended inside its window" in (rate.reason or "")
    assert metrics["output_tokens_per_s"].value == pytest.approx(20 * 6 / 24)
    assert metrics["total_tokens_per_s"].value == pytest.approx(20 * 16 / 24)


def test_a_server_that_only_fails_does_nothing_a_second(tmp_path: Path) -> None:
    write_journal(
        tmp_path, "base", 1, [request(i, "q", i * 100, 50, failure="http_5xx") for i in range(20)]
    )
    assert stage_of(tmp_path).metrics["requests_per_s"].value == 0


def test_no_rate_is_below_zero_and_no_share_above_one(tmp_path: Path) -> None:
    """40 requests end in one block's window, 2 in the other's: t of two exceeds their mean."""
    for block, ending in ((1, 40), (2, 2)):
        records = [request(i, "q", i * 50, 100 if i < ending else 9_000, 50) for i in range(40)]
        write_journal(tmp_path, "base", block, records, window_ms=(0, 4_000))
    stage = stage_of(tmp_path, Goals({"latency_p95": "1s"}))
    for key in (
        "requests_per_s",
        "output_tokens_per_s",
        "goodput",
        "achieved_rate",
        "in_flight",
        "coalesced",
    ):
        rate = stage.metrics[key]
        assert rate.low is not None and rate.high is not None, key
        assert 0 <= rate.low <= rate.high, key
    assert stage.metrics["requests_per_s"].low == 0
    assert (stage.metrics["coalesced"].high or 0) <= 1
    assert (stage.metrics["latency_mean"].low or 0) >= 0


def test_sessions_stand_beside_requests(tmp_path: Path) -> None:
    """10 sessions of three turns in 10 s, in two blocks: 1 session/s, 3 requests/s."""
    with (tmp_path / "prompts.jsonl").open("wb") as file:
        for i in range(10):
            for turn in range(3):
                after = f"s{i}-{turn - 1}" if turn else None
                messages = {"short": [{"role": "user", "content": "x"}]}
                file.write(
                    msgspec.json.encode(
                        Prompt(id=f"s{i}-{turn}", set="eval", messages=messages, after=after)
                    )
                    + b"\n"
                )
    for block in (1, 2):
        records = [
            request(3 * i + turn, f"s{i}-{turn}", i * 1_000 + turn * 300, 100, 50)
            for i in range(10)
            for turn in range(3)
        ]
        write_journal(tmp_path, "base", block, records, offered_rate=1.0)
    stage = stage_of(tmp_path)
    assert stage.sessions
    sessions = stage.metrics["sessions_per_s"]
    assert (sessions.value, sessions.n) == (pytest.approx(1), 20)
    assert stage.metrics["requests_per_s"].value == pytest.approx(3)


def test_a_stage_says_how_its_requests_arrived(tmp_path: Path) -> None:
    write_journal(tmp_path, "base", 1, [request(i, "q", i * 100, 50) for i in range(30)])
    assert stage_of(tmp_path).arrivals == "constant"


def test_single_requests_are_no_sessions(tmp_path: Path) -> None:
    write_journal(tmp_path, "base", 1, [request(i, "q", i * 100, 50) for i in range(30)])
    assert stage_of(tmp_path).metrics["sessions_per_s"].value is None


@pytest.mark.parametrize(
    ("offered", "known"), [(10.0, True), (12.0, True), (100.0, False), (1.0, False)]
)
def test_arrivals_are_held_against_the_rate_that_was_offered(
    tmp_path: Path, offered: float, known: bool
) -> None:
    """100 requests in 10 s."""
    write_journal(
        tmp_path,
        "base",
        1,
        [request(i, "q", i * 100, 50, 20) for i in range(100)],
        offered_rate=offered,
    )
    stage = stage_of(tmp_path)
    assert (stage.held is True, stage.validity.level == "VALID") == (known, known)
    assert (
        known
        or stage.held_reason
        == f"10 requests/s arrived, and the journals say that {offered:g} were offered"
    )
