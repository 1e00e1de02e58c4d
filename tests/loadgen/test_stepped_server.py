"""The engine with steps over HTTP: its logs, record and metrics and the client's journal agree.

What it did in real time is what virtual time computes from when the requests came to its queue.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from foundation.http.endpoint import Endpoint
from foundation.progress import Silent
from foundation.run.engine_record import EngineRequest, EngineStart, EngineStep
from loadgen import BlockPlan, Question, run_block
from loadgen.config import WorkloadConfig
from loadgen.emulator.__main__ import main
from loadgen.emulator.batch_limits import BatchLimits
from loadgen.emulator.block_keys import keys_of_words
from loadgen.emulator.engine_steps import EngineSteps
from loadgen.emulator.planned_step import ScheduledRequest
from loadgen.emulator.plant import Oddities, Plant, StepCost
from loadgen.emulator.process import emulator, read_truth
from loadgen.event_loop import run
from tests.loadgen.conftest import read_journal
from tests.loadgen.test_server_times import engine_lines, exposed, key_of

LIMITS = BatchLimits(4, 24, 14, 4, prefix_caching=True)
PLANT = Plant(
    StepCost(0.002, 50e-6, 20e-6, 1e-6, 1e-7), LIMITS, Oddities(noise=0.2), after=0.001, seed=3
)
ARGUMENTS = [
    "--step", "fixed=2ms,decode=50us,prefill=20us,kv=1us,pair=100ns", "--step-noise", "0.2",
    "--max-num-seqs", "4", "--max-num-batched-tokens", "24", "--kv-blocks", "14",
    "--block-size", "4", "--prefix-cache", "--seed", "3", "--tokens", "uniform:1:12",
    "--front", "1ms", "--front-per-token", "10us", "--after-step", "1ms", "--metrics",
]  # fmt: skip
REQUESTS = 40
STAGES = WorkloadConfig.model_validate(
    {"stages": [{"rate": 200, "requests": REQUESTS}], "warmup": "0s"}
)


@dataclass
class Load:
    """A load over HTTP and everything that was written about it."""

    journal: Any
    truth: dict[str, dict[str, Any]]
    steps: list[dict[str, Any]]
    engine: list[Any]
    metrics: dict[str, float]


def answer_of(endpoint: Endpoint, prompt: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", urlsplit(endpoint.base_url).port)
    body = {"model": "emulated", "messages": [{"role": "user", "content": prompt}]}
    connection.request("POST", "/v1/chat/completions", json.dumps(body | {"max_tokens": 40}))
    answer = connection.getresponse()
    content = answer.read().decode()
    connection.close()
    return answer.status, content


@pytest.fixture(scope="module")
def refusals() -> list[tuple[int, str]]:
    return []


@pytest.fixture(scope="module")
def load(
    tmp_path_factory: pytest.TempPathFactory, refusals: list[tuple[int, str]]
) -> Iterator[Load]:
    folder = tmp_path_factory.mktemp("stepped")
    logs = [folder / name for name in ("truth.jsonl", "steps.jsonl", "engine.jsonl")]
    shared = " ".join(f"w{i}" for i in range(9))
    texts = [f"{shared if i % 2 else ''} own {i} " + "more " * (i % 14) for i in range(REQUESTS)]
    questions = [Question(f"q{i}", [{"role": "user", "content": t}]) for i, t in enumerate(texts)]
    files = ["--step-truth", str(logs[1]), "--engine-record", str(logs[2])]
    with emulator(*ARGUMENTS, *files, truth=logs[0]) as endpoint:
        plan = BlockPlan(endpoint, STAGES.stages[0], 1, 0, questions, "plain", STAGES)
        run(run_block(plan, folder / "block.jsonl", Silent(), asyncio.Event()))
        metrics = exposed(endpoint)
        refusals += [answer_of(endpoint, text) for text in ("long " * 80, "fault:stall a")]
    truth = {row["key"]: row for row in read_truth(logs[0])}
    journal = read_journal(folder / "block.jsonl")
    yield Load(journal, truth, read_truth(logs[1]), engine_lines(logs[2]), metrics)


def test_the_steps_are_those_of_virtual_time_from_when_requests_came(load: Load) -> None:
    steps, rows, arrivals = EngineSteps(PLANT), [], load.truth.values()
    requests = {}
    for row in arrivals:
        if row["end"] != "complete":
            continue
        words, answer = row["prompt"].split(), [f"t{i}" for i in range(12)]
        tokens = sum(row["event_tokens"])
        keys = keys_of_words(words, answer, LIMITS.block_size, (None, None))
        request = ScheduledRequest(row["request"], len(words), tokens, keys)
        requests[row["request"]] = request
        front_ns = 1_000_000 + 10_000 * len(words)
        assert row["queued_ns"] == row["arrived_ns"] + front_ns
        steps.enter(request, row["queued_ns"])
    now_ns = 0
    while (step := steps.begin(now_ns)) or steps.next_ns is not None:
        if step is None:
            now_ns = steps.next_ns or 0
            continue
        now_ns, planned = step.ended_ns, step.planned
        rows.append(
            {
                "step": step.number,
                "began_ns": step.began_ns,
                "ended_ns": step.ended_ns,
                "decodes": planned.decodes,
                "kv_tokens": planned.kv_tokens,
                "prefill_tokens": planned.prefill_tokens,
                "pairs": planned.pairs,
                "decoding": [each.number for each in steps.scheduler.decoding],
                "pieces": [[p.request.number, p.before, p.tokens] for p in planned.pieces],
                "preempted": [each.number for each in planned.preempted],
            }
        )
        steps.end()
    assert [{k: v for k, v in row.items() if k != "sent_ns"} for row in load.steps] == rows
    assert any(row["preempted"] for row in rows) and max(row["decodes"] for row in rows) == 4
    for row in arrivals:
        if request := requests.get(row["request"]):
            assert row["computed_tokens"] == request.computed_tokens
            assert row["preemptions"] == request.preemptions


def test_the_clients_journal_agrees_with_the_servers_truth(load: Load) -> None:
    records = load.journal.records
    assert len(records) == REQUESTS and {each.failure for each in records} == {None}
    ended_ns = {step["step"]: step["ended_ns"] for step in load.steps}
    for record in records:
        row = load.truth[key_of(load.journal, record)]
        assert row["end"] == "complete"
        assert record.output_tokens == len(record.chunk_ns) == len(row["event_ns"])
        assert record.input_tokens == len(row["prompt"].split())
        assert record.cached_tokens == row["cached_tokens"]
        assert row["first_ns"] in ended_ns.values() and row["finished_ns"] in ended_ns.values()
        assert all(at >= row["first_ns"] + 1_000_000 for at in row["event_ns"])
        assert row["event_ns"][-1] >= row["finished_ns"] + 1_000_000
        metrics = record.server_metrics
        queued_ns, prefill_ns, decode_ns = (
            row["started_ns"] - row["queued_ns"],
            row["first_ns"] - row["started_ns"],
            row["finished_ns"] - row["first_ns"],
        )
        assert metrics["queue_time_ms"] == pytest.approx(queued_ns / 1e6)
        assert metrics["time_to_first_token_ms"] == pytest.approx(prefill_ns / 1e6)
        assert metrics["generation_time_ms"] == pytest.approx(decode_ns / 1e6)
    assert sum(record.cached_tokens for record in records) > 0


def test_a_steps_tokens_leave_after_it(load: Load) -> None:
    assert all(step["sent_ns"] >= step["ended_ns"] + 1_000_000 for step in load.steps)


def test_the_engine_record_has_limits_steps_and_requests(load: Load) -> None:
    start, *lines = load.engine
    assert isinstance(start, EngineStart) and start.limits is not None
    limits = start.limits
    assert (limits.max_num_seqs, limits.max_num_batched_tokens, limits.kv_blocks) == (4, 24, 14)
    assert (limits.block_size, limits.chunked_prefill, limits.prefix_caching) == (4, True, True)
    recorded = [line for line in lines if isinstance(line, EngineStep)]
    for step, line in zip(load.steps, recorded, strict=True):
        assert line.ended_ns == step["ended_ns"]
        assert line.elapsed_ns == step["ended_ns"] - step["began_ns"]
        assert line.context_requests == len(step["pieces"])
        assert line.context_tokens == step["prefill_tokens"]
        assert line.generation_tokens == line.generation_requests == step["decodes"]
    assert (recorded[-1].running, recorded[-1].waiting) == (0, 0)
    requests = {line.key: line for line in lines if isinstance(line, EngineRequest)}
    for record in load.journal.records:
        key = key_of(load.journal, record)
        line, row = requests[key], load.truth[key]
        assert line.finished_ns == row["finished_ns"]
        assert line.prefill_ns == row["first_ns"] - row["started_ns"]
        assert (line.cached_tokens, line.preemptions) == (row["cached_tokens"], row["preemptions"])


def test_metrics_count_what_the_scheduler_did(load: Load) -> None:
    metrics, rows = load.metrics, [r for r in load.truth.values() if r["end"] == "complete"]
    assert metrics["vllm:num_requests_running"] == metrics["vllm:num_requests_waiting"] == 0
    assert metrics["vllm:kv_cache_usage_perc"] == 0
    assert metrics["vllm:num_preemptions_total"] == sum(r["preemptions"] for r in rows) > 0
    prompts = sum(len(row["prompt"].split()) for row in rows)
    assert metrics["vllm:prefix_cache_queries_total"] == prompts
    assert metrics["vllm:prefix_cache_hits_total"] == sum(r["cached_tokens"] for r in rows)
    assert metrics["vllm:iteration_tokens_total_count"] == len(load.steps)
    computed = sum(step["decodes"] + step["prefill_tokens"] for step in load.steps)
    assert metrics["vllm:iteration_tokens_total_sum"] == computed
    assert computed == sum(row["computed_tokens"] for row in rows)


def test_what_the_engine_can_never_serve_is_refused(
    load: Load, refusals: list[tuple[int, str]]
) -> None:
    assert load.steps
    assert [status for status, _ in refusals] == [400, 400]
    assert "do not fit the KV cache" in refusals[0][1] and "fault stall" in refusals[1][1]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("--step decode=1ms", "fixed above 0, not 'decode=1ms'"),
        ("--step fixed=8", "a duration with its unit"),
        ("--step fixed=1ms,fixed=2ms", "write fixed=8ms,decode=50us"),
        ("--step fixed=1ms --lockstep 5ms", "without --lockstep"),
        ("--step fixed=1ms --max-num-seqs 0", "max_num_seqs: write 1 or more, not 0"),
        ("--step fixed=1ms --step-drift 2:5s", "drift: write a share from 0 to below 1"),
        ("--kv-blocks 5", "--kv-blocks goes with --step"),
    ],
)
def test_arguments_that_do_not_fit_are_named(
    arguments: str, why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["emulator", *arguments.split()])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert why in capsys.readouterr().err
