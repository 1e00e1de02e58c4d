"""Blocks against the emulator: the journal against the emulator's log of the same requests."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundation.run.records import RequestRecord
from loadgen import Question
from loadgen.config import Stage
from loadgen.schedule.arrivals import schedule
from tests.loadgen.conftest import RunBlock, StartEmulator, questions


def prompt(record: RequestRecord) -> str:
    return f"question {record.prompt_id[1:]}"


def arrivals_ns(record: RequestRecord) -> np.ndarray:
    return np.cumsum(record.chunk_ns)


@pytest.mark.parametrize("transport", ["socket", "aiohttp"])
def test_an_open_block_s_journal_agrees_with_what_the_server_did(
    emulator: StartEmulator, block: RunBlock, transport: str
) -> None:
    server = emulator(
        "--ttft", "exponential:20ms", "--itl", "exponential:3ms", "--tokens", "uniform:1:20"
    )
    of = {"rate": 40, "duration": "1s", "warmup": "0.5s"}
    journal = block(server.endpoint, of, transport=transport)
    truth = server.truth()
    header = journal.header
    times = schedule(Stage.model_validate(of), 0, 1, 0.0).times_ns.tolist()

    assert journal.end is not None and journal.end.end == "complete"
    assert header.planned == len(times) == len(journal.records)
    assert (header.window_start_ns, header.window_end_ns) == (500_000_000, 1_500_000_000)
    assert header.offered_rate == 40 and header.concurrency is None and header.arrivals == "poisson"
    assert [r.scheduled_ns for r in sorted(journal.records, key=lambda r: r.id)] == times
    for record in journal.records:
        did = truth[prompt(record)]
        origin = header.origin_monotonic_ns
        assert did["key"] == f"{origin:016x}{record.id:016x}"
        assert record.failure is None and record.error is None and record.status == 200
        assert record.output_tokens == sum(did["event_tokens"]) == sum(record.chunk_tokens)
        assert record.tokens_from == "server" and record.input_tokens == 2
        assert record.text == "".join(f"t{i} " for i in range(record.output_tokens))
        assert record.scheduled_ns <= record.sent_ns <= did["arrived_ns"] - origin
        assert (arrivals_ns(record) >= np.array(did["event_ns"]) - origin).all()
        assert record.done_ns >= arrivals_ns(record)[-1]
    assert (header.transport, header.clock) == (
        transport,
        {"socket": "kernel", "aiohttp": "user"}[transport],
    )
    late = np.concatenate(
        [
            arrivals_ns(r) + header.origin_monotonic_ns - truth[prompt(r)]["event_ns"]
            for r in journal.records
        ]
    )
    assert np.median(late) < np.median(
        np.concatenate([np.diff(truth[prompt(r)]["event_ns"]) for r in journal.records])
    )


def test_a_stalled_server_does_not_hold_back_the_schedule(
    emulator: StartEmulator, block: RunBlock
) -> None:
    """No coordinated omission: requests go out on time, and their wait for the slot counts."""
    server = emulator("--slots", "1", "--ttft", "100ms", "--tokens", "1")
    journal = block(server.endpoint, {"rate": 50, "arrivals": "constant", "requests": 20})
    truth = server.truth()
    origin = journal.header.origin_monotonic_ns
    arrived = sorted(did["arrived_ns"] - origin for did in truth.values())
    assert arrived[-1] < 10 * 100_000_000  # all had come when half had been served
    for record in journal.records:
        assert record.failure is None
        assert (
            record.chunk_ns[0] - record.scheduled_ns
            >= truth[prompt(record)]["event_ns"][0] - origin - record.scheduled_ns
        )
    latencies = [
        r.chunk_ns[0] - r.scheduled_ns for r in sorted(journal.records, key=lambda r: r.id)
    ]
    assert latencies[-1] > 15 * 70_000_000  # 20 services of 100 ms against arrivals 20 ms apart


def test_a_closed_loop_keeps_its_concurrency_and_never_exceeds_it(
    emulator: StartEmulator, block: RunBlock
) -> None:
    server = emulator("--ttft", "5ms", "--itl", "2ms", "--tokens", "uniform:1:10")
    journal = block(server.endpoint, {"concurrency": 4, "requests": 60, "warmup": "0.1s"})
    truth = server.truth().values()
    assert max(did["active"] for did in truth) == 4
    window = [r for r in journal.records if r.scheduled_ns >= journal.header.window_start_ns]
    assert len(window) == 60 == journal.header.planned
    assert [r.prompt_id for r in sorted(window, key=lambda r: r.id)] == [f"q{i}" for i in range(60)]
    assert len(journal.records) > 60 and {r.prompt_id for r in journal.records} >= {"q999"}
    assert journal.header.window_end_ns is None
    end = journal.end.window_end_ns
    assert max(r.scheduled_ns for r in window) < end <= max(r.done_ns for r in window)


def test_a_closed_loop_of_a_duration(emulator: StartEmulator, block: RunBlock) -> None:
    server = emulator("--ttft", "5ms", "--tokens", "2")
    journal = block(server.endpoint, {"concurrency": 2, "duration": "0.4s"})
    assert (
        journal.header.planned is None
        and journal.header.window_end_ns == journal.end.window_end_ns == 400_000_000
    )
    assert all(r.scheduled_ns < 400_000_000 and r.failure is None for r in journal.records)


def test_a_ramp_and_a_recording_say_what_they_offer(
    emulator: StartEmulator, block: RunBlock, tmp_path: Path
) -> None:
    server = emulator("--tokens", "1")
    ramp = block(server.endpoint, {"rate": 10, "rate_to": 30, "duration": "1s"})
    assert ramp.header.offered_rate == 20
    trace = tmp_path / "t.jsonl"
    trace.write_text("".join(f'{{"at": {i / 10}}}\n' for i in range(30)))
    replay = block(server.endpoint, {"trace": {"file": str(trace), "speed": 2}, "requests": 10})
    assert replay.header.offered_rate == pytest.approx(20) and replay.header.arrivals == "trace"
    assert [r.scheduled_ns for r in sorted(replay.records, key=lambda r: r.id)] == [
        i * 50_000_000 for i in range(10)
    ]


def test_a_closed_loop_thinks_between_requests(emulator: StartEmulator, block: RunBlock) -> None:
    server = emulator("--ttft", "5ms", "--tokens", "1")
    journal = block(server.endpoint, {"concurrency": 1, "requests": 4, "think": "150ms"})
    records = sorted(journal.records, key=lambda r: r.id)
    for before, after in pairwise(records):
        assert after.scheduled_ns - before.done_ns >= 149_000_000


def test_arrivals_over_the_limit_are_dropped_and_counted(
    emulator: StartEmulator, block: RunBlock
) -> None:
    server = emulator("--ttft", "500ms", "--tokens", "1")
    journal = block(
        server.endpoint, {"rate": 100, "arrivals": "constant", "requests": 10}, max_in_flight=3
    )
    failures = {r.id: r.failure for r in journal.records}
    assert [failures[i] for i in range(10)] == [None] * 3 + ["dropped"] * 7
    assert all(r.sent_ns is None for r in journal.records if r.failure == "dropped")
    assert len(server.truth()) == 3


def test_stop_drains_what_is_in_flight_and_cancels_the_rest(
    emulator: StartEmulator, block: RunBlock
) -> None:
    server = emulator("--ttft", "400ms", "--tokens", "1")
    journal = block(
        server.endpoint, {"rate": 20, "arrivals": "constant", "requests": 40}, stop_at=1
    )
    assert journal.end.end == "interrupted"
    assert sorted(r.id for r in journal.records) == list(range(40))
    sent = [r for r in journal.records if r.sent_ns is not None]
    assert {r.failure for r in sent} == {None}
    assert {r.failure for r in journal.records if r.sent_ns is None} == {"cancelled"}
    assert 1 < len(sent) < 40
    assert max(r.done_ns for r in sent) > journal.end.window_end_ns


def test_stop_in_a_closed_loop(emulator: StartEmulator, block: RunBlock) -> None:
    server = emulator("--ttft", "50ms", "--tokens", "1")
    journal = block(server.endpoint, {"concurrency": 2, "requests": 500}, stop_at=3)
    assert journal.end.end == "interrupted" and len(journal.records) == 500
    assert {r.failure for r in journal.records} == {None, "cancelled"}
    assert all(r.failure is None for r in journal.records if r.sent_ns is not None)


@pytest.mark.parametrize(
    "stage",
    [{"rate": 20, "arrivals": "constant", "requests": 40}, {"concurrency": 3, "requests": 40}],
)
def test_a_cancelled_block_leaves_a_whole_journal(
    emulator: StartEmulator, block: RunBlock, stage: dict[str, Any]
) -> None:
    server = emulator("--ttft", "10s", "--tokens", "1")
    sessions = questions(40)
    sessions[2] = Question("q2", [{"role": "user", "content": "fault:http-500"}])
    journal = block(server.endpoint, stage, sessions, cancel_at=1)
    assert journal.end is not None and journal.end.end == "interrupted"
    assert sorted(r.id for r in journal.records) == list(range(40))
    failures = {r.id: r.failure for r in journal.records}
    assert failures.pop(2) == "http_5xx" and set(failures.values()) == {"cancelled"}
    assert {r.id for r in journal.records if r.sent_ns is not None} >= {0, 1, 2}


def test_tokens_that_share_a_chunk_are_counted_where_the_server_says_so(
    emulator: StartEmulator, block: RunBlock
) -> None:
    args = ["--tokens", "10", "--tokens-per-chunk", "4"]
    counted = block(
        emulator("--owned-by", "vllm", *args).endpoint, {"concurrency": 1, "requests": 2}
    )
    assert [r.chunk_tokens for r in counted.records] == [[4, 4, 2]] * 2
    uncounted = block(emulator(*args).endpoint, {"concurrency": 1, "requests": 2})
    assert [r.chunk_tokens for r in uncounted.records] == [[1, 1, 1]] * 2
    assert {r.output_tokens for r in counted.records + uncounted.records} == {10}


def test_a_server_without_usage_leaves_the_counts_open(
    emulator: StartEmulator, block: RunBlock
) -> None:
    journal = block(emulator("--no-usage").endpoint, {"concurrency": 1, "requests": 2})
    for record in journal.records:
        assert record.failure is None
        assert record.input_tokens is record.output_tokens is record.tokens_from is None


def test_text_completions(emulator: StartEmulator, block: RunBlock) -> None:
    server = emulator("--tokens", "3")
    journal = block(server.endpoint, {"concurrency": 1, "requests": 2}, api="completions")
    assert [r.text for r in journal.records] == ["t0 t1 t2 "] * 2
    assert journal.header.api == "completions"


def test_progress_hears_of_every_record(emulator: StartEmulator, tmp_path: Path) -> None:
    import asyncio

    from loadgen import BlockPlan, run_block
    from loadgen.config import WorkloadConfig
    from loadgen.event_loop import run

    class Counting:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def stage(self, name: str, total: float | None, unit: str) -> None: ...

        def advance(self, amount: float = 1, note: str = "") -> None:
            self.seen.append(note)

        def log(self, line: str) -> None: ...

    config = WorkloadConfig.model_validate(
        {"stages": [{"concurrency": 2, "requests": 6}], "warmup": "0s"}
    )
    sessions = [*questions(5), Question("bad", [{"role": "user", "content": "fault:http-500"}])]
    progress = Counting()
    plan = BlockPlan(
        emulator("--tokens", "1").endpoint, config.stages[0], 1, 0, sessions, "plain", config
    )
    run(run_block(plan, tmp_path / "j.jsonl", progress, asyncio.Event()))
    assert len(progress.seen) == 6
    assert any("1 failed" in note for note in progress.seen)
