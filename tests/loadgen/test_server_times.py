"""A delay put into one part of a request's time shows in that part, and in no other.

The server's times are in its engine record and in its answers, the client's in the journal. The
oracle is the emulator's truth log, whose stamps it takes itself.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
import pytest

from foundation.http.endpoint import Endpoint
from foundation.run import journal as run_files
from foundation.run.engine_record import EngineLine, EngineRequest, EngineStart, EngineStep
from foundation.run.engine_records import read_engine_records
from foundation.run.records import RequestRecord
from loadgen import BlockPlan, Question, run_block
from loadgen.config import WorkloadConfig
from loadgen.emulator.process import emulator, read_truth
from loadgen.event_loop import run
from results.measures.steady_state import block_of
from results.measures.waterfall import Detail, block_segments
from tests.loadgen.conftest import Bell, Journal, RunBlock, read_journal

MS = 1_000_000
DELAYS = {
    "nothing": "",
    "before_queue": "front:220ms",
    "queued": "queue:200ms",
    "prefill": "ttft:250ms",
    "decode": "itl:10ms",
    "end_of_answer": "end:220ms",
}
EACH = 7


def engine_lines(path: Path) -> list[EngineLine]:
    return [msgspec.json.decode(line, type=EngineLine) for line in path.read_bytes().splitlines()]


def segments_ms(
    record: RequestRecord, origin_ns: int, engine: EngineRequest | None = None
) -> dict[str, float]:
    """The parts of a request's time, by their definitions."""
    assert record.sent_ns is not None and record.done_ns is not None and record.client_lag_ns
    first_ns, last_ns = record.chunk_ns[0], sum(record.chunk_ns)
    parts = {
        "slip": record.sent_ns - record.scheduled_ns,
        "decode": last_ns - first_ns,
        "end_of_answer": record.done_ns - last_ns,
        "client_lag": record.client_lag_ns[-1],
    }
    if engine is not None and engine.finished_ns is not None:
        first_token_ns = engine.finished_ns - engine.decode_ns
        queue_ns = first_token_ns - engine.prefill_ns - engine.queued_ns
        parts |= {
            "before_queue": queue_ns - record.sent_ns - origin_ns,
            "queued": engine.queued_ns,
            "prefill": engine.prefill_ns,
            "unexplained": first_ns + origin_ns - first_token_ns,
        }
    return {name: part / MS for name, part in parts.items()}


def true_ms(did: dict[str, Any]) -> dict[str, float]:
    """The same parts as the server saw them."""
    parts = {
        "before_queue": did["queued_ns"] - did["arrived_ns"],
        "queued": did["started_ns"] - did["queued_ns"],
        "prefill": did["event_ns"][0] - did["started_ns"],
        "decode": did["event_ns"][-1] - did["event_ns"][0],
        "end_of_answer": did["finished_ns"] - did["event_ns"][-1],
    }
    return {name: part / MS for name, part in parts.items()}


@dataclass
class Server:
    """A running emulator and its files."""

    endpoint: Endpoint
    truth: Path
    record: Path

    def did(self, journal: Journal) -> dict[str, dict[str, Any]]:
        """What it did with the requests of a journal, by key, once it has written all."""
        until = time.monotonic() + 5
        while time.monotonic() < until:
            rows = {row["key"]: row for row in read_truth(self.truth)}
            if all(key_of(journal, record) in rows for record in journal.records):
                return rows
            time.sleep(0.01)
        raise AssertionError("the emulator did not finish its requests")


def key_of(journal: Journal, record: RequestRecord) -> str:
    return f"{journal.header.origin_monotonic_ns:016x}{record.id:016x}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("emulator")
    truth, record = folder / "truth.jsonl", folder / "engine" / "server.jsonl"
    record.parent.mkdir()
    times = ["--front", "20ms", "--ttft", "50ms", "--itl", "5ms", "--end", "20ms"]
    more = ["--tokens", "41", "--metrics", "--engine-record", str(record)]
    with emulator(*times, *more, truth=truth) as endpoint:
        yield Server(endpoint, truth, record)


def waterfall_ms(journal: Path, engine: Path) -> dict[int, dict[str, float]]:
    """The segments that the product computes from the files, by request."""
    read = run_files.read_journal(journal)
    assert isinstance(read, run_files.Journal)
    steady = block_of(read_engine_records(engine).timed(read))
    segments = block_segments(steady, Detail.MOMENTS)
    rows = (dict(zip(segments.keys, row, strict=True)) for row in segments.values.tolist())
    return dict(zip(steady.steady.id.tolist(), rows, strict=True))


def test_a_delay_is_in_its_own_segment_and_in_no_other(
    server: Server, block: RunBlock, tmp_path: Path
) -> None:
    texts = [f"{name}-{i} {delay}" for i in range(EACH) for name, delay in DELAYS.items()]
    asked = [Question(text.split()[0], [{"role": "user", "content": text}]) for text in texts]
    stage = {"rate": 75, "arrivals": "constant", "requests": len(asked)}
    journal = block(server.endpoint, stage, asked)
    origin_ns, truth = journal.header.origin_monotonic_ns, server.did(journal)
    waterfall = waterfall_ms(tmp_path / "block.jsonl", server.record.parent)
    start, *lines = engine_lines(server.record)
    assert isinstance(start, EngineStart) and start.source == "emulator"
    engine = {line.key: line for line in lines if isinstance(line, EngineRequest)}
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in DELAYS}
    done: dict[str, list[dict[str, float]]] = {name: [] for name in DELAYS}
    for record in journal.records:
        assert record.failure is None
        key = key_of(journal, record)
        timed, did = engine[key], truth[key]
        segments, true = segments_ms(record, origin_ns, timed), true_ms(did)
        assert waterfall[record.id] == pytest.approx(segments, abs=0.001)
        latency_ms = (sum(record.chunk_ns) - record.scheduled_ns) / MS
        outside = segments["end_of_answer"] + segments["client_lag"]
        assert sum(segments.values()) - outside == pytest.approx(latency_ms, abs=0.001)
        assert (segments["queued"], segments["prefill"]) == (true["queued"], true["prefill"])
        assert timed.in_server_ns == did["finished_ns"] - did["arrived_ns"]
        assert timed.output_tokens == 41
        delay = record.prompt_id.rpartition("-")[0]
        measured[delay].append(segments)
        done[delay].append(true)
        metrics = record.server_metrics
        assert metrics["queue_time_ms"] == pytest.approx(true["queued"])
        assert metrics["time_to_first_token_ms"] == pytest.approx(true["prefill"])
        assert metrics["generation_time_ms"] == pytest.approx(
            true["decode"] + true["end_of_answer"]
        )
    for delay in DELAYS:
        for name in measured[delay][0]:
            true_move = moved_by(done, delay, name) if name in done[delay][0] else 0.0
            off = 20 if name == delay else 5  # a tenth of the delay
            assert moved_by(measured, delay, name) == pytest.approx(true_move, abs=off), delay
            assert (true_move > 150) is (name == delay)


def moved_by(times: dict[str, list[dict[str, float]]], delay: str, name: str) -> float:
    """How far a delay moved the median of a segment, in ms."""
    usual = np.median([each[name] for each in times["nothing"]])
    return float(np.median([each[name] for each in times[delay]]) - usual)


def test_a_busy_client_is_in_slip_and_client_lag_and_in_no_other_segment(
    server: Server, tmp_path: Path
) -> None:
    """Chunks that wait in the kernel together have one stamp, that of the last.

    So the decode of an answer that began during the stall can't be known, and is left out here.
    """
    stage = {"rate": 100, "arrivals": "constant", "requests": 40}
    config = WorkloadConfig.model_validate({"stages": [stage], "warmup": "0s"})
    text = "front:0s ttft:30ms itl:1ms end:0s"
    questions = [Question("q", [{"role": "user", "content": text}])]
    path, stall = tmp_path / "b.jsonl", []

    def be_busy() -> None:
        stall.append(time.monotonic_ns())
        time.sleep(0.2)
        asyncio.get_running_loop().call_soon(lambda: stall.append(time.monotonic_ns()))

    async def main() -> None:
        plan = BlockPlan(server.endpoint, config.stages[0], 1, 0, questions, "plain", config)
        await run_block(plan, path, Bell(5, be_busy), asyncio.Event())

    run(main())
    journal = read_journal(path)
    origin_ns, truth = journal.header.origin_monotonic_ns, server.did(journal)
    begun_ns, over_ns = (at_ns - origin_ns for at_ns in stall)
    moved: dict[str, list[float]] = {"slip": [], "client_lag": []}
    unmoved: dict[str, list[float]] = {"slip": [], "client_lag": [], "decode": []}
    for record in journal.records:
        did = truth[key_of(journal, record)]
        segments, true = segments_ms(record, origin_ns), true_ms(did)
        sent_by_ns = did["arrived_ns"] - origin_ns
        for key, at_ns, until_ns in (
            ("slip", record.scheduled_ns, sent_by_ns),
            ("client_lag", sum(record.chunk_ns), over_ns),
        ):
            if begun_ns < at_ns < over_ns - 20 * MS:
                moved[key].append(segments[key] - (until_ns - at_ns) / MS)
                assert segments[key] > (over_ns - at_ns) / MS - 20
            elif at_ns < begun_ns:
                unmoved[key].append(segments[key])
        if not begun_ns < record.chunk_ns[0] < over_ns:
            unmoved["decode"].append(segments["decode"] - true["decode"])
    for limit_ms, differences in (20, moved), (5, unmoved):  # a tenth of the stall, and none
        for key, each in differences.items():
            assert len(each) > 2, key
            assert np.median(np.abs(each)) < limit_ms, key


def test_metrics_and_steps_of_a_lockstep_engine_are_what_it_did(
    block: RunBlock, tmp_path: Path
) -> None:
    path = tmp_path / "engine.jsonl"
    times = ["--lockstep", "10ms", "--ttft", "30ms", "--queue", "20ms", "--tokens", "7"]
    more = ["--tokens-per-chunk", "2", "--engine-record", str(path)]
    with emulator(*times, *more, truth=tmp_path / "truth.jsonl") as endpoint:
        before = exposed(endpoint)
        journal = block(endpoint, {"concurrency": 6, "requests": 12})
        after = exposed(endpoint)
    steps = [line for line in engine_lines(path) if isinstance(line, EngineStep)]
    assert {record.failure for record in journal.records} == {None}
    assert before["vllm:generation_tokens_total"] == 0
    assert after["vllm:generation_tokens_total"] == 12 * 7
    assert after["vllm:prompt_tokens_total"] == 12 * 2 == sum(s.context_tokens for s in steps)
    assert after["vllm:num_requests_running"] == after["vllm:num_requests_waiting"] == 0
    assert sum(step.context_requests for step in steps) == 12
    assert sum(step.generation_tokens for step in steps) == 12 * (7 - 2)
    elapsed = [step.elapsed_ns for step in steps if step.generation_requests]
    assert 5 * MS < np.median([ns for ns in elapsed if ns is not None]) < 20 * MS


def exposed(endpoint: Endpoint) -> dict[str, float]:
    """The values of `/metrics` by name."""
    port = urlsplit(endpoint.base_url).port
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    rows = (re.fullmatch(r"([a-z:_]+)\{.*\} (\S+)", line) for line in lines)
    return {row[1]: float(row[2]) for row in rows if row}
