"""The engine record from objects of the shape of vLLM's."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from foundation.run.engine_record import (
    EngineLimits,
    EngineLine,
    EngineRequest,
    EngineStart,
    EngineStep,
    request_key,
)
from serve.vllm.engine_record import PLUGIN, VARIABLE, EngineRecord, environment
from serve.vllm.failures import explain

STEPS = "vllm.v1.metrics.loggers"
KEY = request_key(44_820_000_000_000, 17)
CONFIG = SimpleNamespace(
    scheduler_config=SimpleNamespace(async_scheduling=False),
    parallel_config=SimpleNamespace(distributed_executor_backend="mp", pipeline_parallel_size=1),
)


class Clocks:
    """Both clocks, 1,000 s after the machine's start and on a day of 2026."""

    def __init__(self) -> None:
        self.monotonic, self.unix = 1_000_000_000_000, 1_795_762_444_000_000_000

    def go_on(self, ns: int) -> None:
        self.monotonic += ns
        self.unix += ns

    def monotonic_ns(self) -> int:
        return self.monotonic

    def time_ns(self) -> int:
        return self.unix


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr("serve.vllm.wall_clock.time", clocks)
    return clocks


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The record's file; what the record does to vLLM's logger is undone."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "base.jsonl"))
    filters = list(logging.getLogger(STEPS).filters)
    yield tmp_path / "base.jsonl"
    logging.getLogger(STEPS).filters = filters


def lines_of(record: EngineRecord, file: Path) -> list[EngineLine]:
    assert record._lines is not None
    record._lines.flush()
    return msgspec.json.Decoder(EngineLine).decode_lines(file.read_bytes())


def finished(request_id: str | None, **changes: object) -> SimpleNamespace:
    usual = {
        "e2e_latency": 0.653988361, "queued_time": 2.9283e-05, "prefill_time": 0.074774674,
        "decode_time": 0.567406928, "num_prompt_tokens": 36, "num_generation_tokens": 12,
        "num_cached_tokens": 16, "num_preemptions": 1,
    }  # fmt: skip
    return SimpleNamespace(request_id=request_id, **(usual | changes))


def iteration(at_ns: int, *requests: SimpleNamespace) -> SimpleNamespace:
    return SimpleNamespace(iteration_timestamp=at_ns / 1e9, finished_requests=list(requests))


def scheduler(**changes: object) -> SimpleNamespace:
    details = {
        "num_ctx_requests": 1, "num_ctx_tokens": 36, "num_generation_requests": 3,
        "num_generation_tokens": 4, "elapsed_ms": 73.2216, "is_dummy": False,
    }  # fmt: skip
    return SimpleNamespace(
        num_running_reqs=4,
        num_waiting_reqs=2,
        num_skipped_waiting_reqs=5,
        iteration_details=SimpleNamespace(**(details | changes)),
    )


def test_a_request_and_a_step_are_a_line_each_on_the_monotonic_clock(file: Path, clocks: Clocks):
    record = EngineRecord(CONFIG)
    began = EngineStart(
        schema_version=1, source="vLLM", monotonic_ns=clocks.monotonic, unix_ns=clocks.unix,
        limits=EngineLimits(),
    )  # fmt: skip
    clocks.go_on(5_000_000_000)
    outcome_ns, wall_ns = clocks.monotonic, clocks.unix
    clocks.go_on(3_000_000)  # what the server does before it counts
    record.record(scheduler(), iteration(wall_ns, finished(f"chatcmpl-{KEY}")), None, engine_idx=0)
    start, request, step = lines_of(record, file)
    assert start == began
    assert isinstance(request, EngineRequest) and request.finished_ns is not None
    assert abs(request.finished_ns - outcome_ns) < 1_000  # a float holds the day to 0.25 us
    assert request == EngineRequest(
        key=KEY, finished_ns=request.finished_ns, in_server_ns=653_988_361, queued_ns=29_283,
        prefill_ns=74_774_674, decode_ns=567_406_928, input_tokens=36, output_tokens=12,
        cached_tokens=16, preemptions=1,
    )  # fmt: skip
    assert step == EngineStep(
        ended_ns=request.finished_ns, elapsed_ns=73_221_600, context_requests=1,
        context_tokens=36, generation_requests=3, generation_tokens=4, running=4, waiting=7,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("request_id", "key"),
    [
        (f"chatcmpl-{KEY}", KEY),
        (f"cmpl-{KEY}-0", KEY),
        (f"cmpl-{KEY}-1", None),  # a second prompt
        (f"embd-{KEY}", None),
        (KEY, None),
        ("chatcmpl-bc11f547e648e154", None),  # vLLM's own
        ("chatcmpl-0f8fad5bd9cb469fa16570867728950e", None),  # a UUID of somebody's proxy
        (None, None),
    ],
)
def test_requests_of_others_are_left_out(
    file: Path, clocks: Clocks, request_id: str | None, key: str | None
):
    record = EngineRecord(CONFIG)
    clocks.go_on(5_000_000_000)
    record.record(None, iteration(clocks.unix, finished(request_id)))
    requests = [line for line in lines_of(record, file) if isinstance(line, EngineRequest)]
    assert [request.key for request in requests] == ([key] if key else [])


@pytest.mark.parametrize(
    "times",
    [{"prefill_time": -900.0}, {"queued_time": 1_004.0}],
    ids=["no first token", "no stamp of the queue"],
)
def test_a_request_without_all_of_the_engines_stamps_is_left_out(
    file: Path, clocks: Clocks, times: dict[str, float]
):
    record = EngineRecord(CONFIG)
    clocks.go_on(5_000_000_000)
    record.record(None, iteration(clocks.unix, finished(f"chatcmpl-{KEY}", **times)))
    assert len(lines_of(record, file)) == 1


def test_an_older_vllm_does_not_say_how_often_a_request_was_put_back(file: Path, clocks: Clocks):
    record = EngineRecord(CONFIG)
    clocks.go_on(5_000_000_000)
    older = finished(f"chatcmpl-{KEY}")
    del older.num_preemptions  # as in 0.26
    record.record(None, iteration(clocks.unix, older))
    request = lines_of(record, file)[-1]
    assert isinstance(request, EngineRequest)
    assert (request.key, request.preemptions) == (KEY, None)


def test_a_dummy_step_is_left_out_and_one_without_an_outcome_ends_now(file: Path, clocks: Clocks):
    record = EngineRecord(CONFIG)
    record.record(scheduler(is_dummy=True), None)
    record.record(SimpleNamespace(iteration_details=None), iteration(clocks.unix))
    record.record(None, None)
    clocks.go_on(7)
    record.record(scheduler(), None)
    _, step = lines_of(record, file)
    assert isinstance(step, EngineStep) and step.ended_ns == clocks.monotonic


@pytest.mark.parametrize(
    ("overlap", "backend", "stages", "is_whole"),
    [
        (False, "mp", 1, True),
        (False, "ray", 1, True),
        (True, "mp", 1, False),
        (True, "ray", 1, False),
        (None, "uni", 1, False),
        (False, None, 1, False),
        (False, "mp", 2, False),
        (False, "ray", 2, False),
    ],
)
def test_a_part_of_a_step_is_no_steps_time(
    file: Path, clocks: Clocks, overlap: bool | None, backend: str | None, stages: int,
    is_whole: bool,
):  # fmt: skip
    config = SimpleNamespace(
        scheduler_config=SimpleNamespace(async_scheduling=overlap),
        parallel_config=SimpleNamespace(
            distributed_executor_backend=backend, pipeline_parallel_size=stages
        ),
    )
    record = EngineRecord(config)
    record.record(scheduler(), None)
    step = lines_of(record, file)[-1]
    assert isinstance(step, EngineStep) and (step.elapsed_ns is not None) == is_whole


@pytest.mark.parametrize("jump_ns", [1_500_000_000, -500_000_000, -3_600_000_000_000])
def test_a_clock_that_is_set_leaves_times_unknown_and_monotonic_ones_stay(
    file: Path, clocks: Clocks, caplog: pytest.LogCaptureFixture, jump_ns: int
):
    record = EngineRecord(CONFIG)
    clocks.go_on(5_000_000_000)
    times = []
    # The clock is set 0.3 s after the arrival of a request of 0.654 s, at a step; then it goes on.
    for age_ns, ahead_ns in ((300_000_000, jump_ns), (354_000_000, 0), (2_000_000_000, 0)):
        clocks.go_on(age_ns)
        clocks.unix += ahead_ns
        latency = 0.653988361 + (jump_ns / 1e9 if ahead_ns == 0 and age_ns < 1e9 else 0.0)
        done = finished(f"chatcmpl-{KEY}", e2e_latency=latency)
        record.record(None, iteration(clocks.unix, done))
        request = lines_of(record, file)[-1]
        assert isinstance(request, EngineRequest) and request.prefill_ns == 74_774_674
        times.append((request.finished_ns is None, request.in_server_ns is None))
    assert times[:2] == [(True, True), (False, True)]
    assert [line.getMessage() for line in caplog.records] == [
        f"the wall clock was set by {jump_ns / 1e9:.3f} s"
    ]
    clocks.go_on(7_200_000_000_000)
    record.record(None, iteration(clocks.unix, finished(f"chatcmpl-{KEY}")))
    request = lines_of(record, file)[-1]
    assert isinstance(request, EngineRequest) and request.in_server_ns == 653_988_361


def test_a_clock_that_a_time_server_slows_down_is_not_set(file: Path, clocks: Clocks):
    record = EngineRecord(CONFIG)
    for _ in range(100):
        clocks.go_on(100_000_000)
        clocks.unix -= 50_000
        record.record(None, iteration(clocks.unix, finished(f"chatcmpl-{KEY}")))
    requests = [line for line in lines_of(record, file) if isinstance(line, EngineRequest)]
    assert all(request.finished_ns and request.in_server_ns for request in requests[10:])


def test_it_is_silent_unless_a_variable_names_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    filters = list(logging.getLogger(STEPS).filters)
    record = EngineRecord(None)
    record.record(scheduler(), iteration(0, finished(f"chatcmpl-{KEY}")))
    record.log_engine_initialized()
    assert not list(tmp_path.iterdir()) and logging.getLogger(STEPS).filters == filters


def test_an_interface_that_changed_stops_the_record_with_one_line(
    file: Path, clocks: Clocks, caplog: pytest.LogCaptureFixture
):
    record = EngineRecord(CONFIG)
    record.record(scheduler(), None)
    lines = record._lines
    changed = finished(f"chatcmpl-{KEY}")
    del changed.queued_time
    for _ in range(3):
        record.record(scheduler(), iteration(clocks.unix, changed))
    assert [line.getMessage() for line in caplog.records] == [
        "the engine record stops: AttributeError: "
        "'types.SimpleNamespace' object has no attribute 'queued_time'"
    ]
    assert lines is not None
    lines.flush()
    assert len(file.read_text().splitlines()) == 2


@pytest.mark.parametrize("config", [CONFIG, SimpleNamespace()], ids=["no folder", "no field"])
def test_a_record_that_can_not_begin_costs_one_line(
    file: Path,
    clocks: Clocks,
    config: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setenv(VARIABLE, "/proc/no folder can be made here/base.jsonl")
    record = EngineRecord(config)
    record.record(scheduler(), iteration(clocks.unix, finished(f"chatcmpl-{KEY}")))
    (line,) = caplog.records
    assert line.getMessage().startswith("the engine record stops: ")
    assert explain(line.getMessage(), 1).kind == "other"


def test_vllms_line_for_each_step_stays_out_of_its_log(
    file: Path, clocks: Clocks, caplog: pytest.LogCaptureFixture
):
    EngineRecord(CONFIG)
    logger = logging.getLogger(STEPS)
    caplog.set_level("INFO", STEPS)

    def _log_iteration_details() -> None:
        logger.info("Iteration(1): ...")

    _log_iteration_details()
    logger.info("Running: 3 reqs")
    assert [line.getMessage() for line in caplog.records] == ["Running: 3 reqs"]


@pytest.mark.parametrize(
    ("inherited", "plugins"),
    [({}, None), ({"VLLM_PLUGINS": ""}, PLUGIN), ({"VLLM_PLUGINS": "a,b"}, f"a,b,{PLUGIN}")],
)
def test_the_users_choice_of_plugins_stays(
    tmp_path: Path,
    inherited: dict[str, str],
    plugins: str | None,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    variables = environment(Path("engine/base.jsonl"), inherited)
    assert variables[VARIABLE] == str(tmp_path / "engine/base.jsonl")
    assert variables.get("VLLM_PLUGINS") == plugins


def test_the_scheduler_s_limits_are_in_the_first_line(file: Path, clocks: Clocks):
    config = SimpleNamespace(
        **vars(CONFIG)
        | {
            "scheduler_config": SimpleNamespace(
                async_scheduling=False, max_num_seqs=128, max_num_batched_tokens=2048,
                enable_chunked_prefill=True,
            ),
            "cache_config": SimpleNamespace(
                num_gpu_blocks=910, block_size=128, enable_prefix_caching=False
            ),
            "lora_config": None,
        }
    )  # fmt: skip
    limits = EngineLimits(
        max_num_seqs=128, max_num_batched_tokens=2048, kv_blocks=910, block_size=128,
        chunked_prefill=True, prefix_caching=False,
    )  # fmt: skip
    (start,) = lines_of(EngineRecord(config, [0]), file)
    assert isinstance(start, EngineStart) and start.limits == limits


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"cache_config": SimpleNamespace(num_gpu_blocks=None, block_size="16")},
        {"cache_config": SimpleNamespace(num_gpu_blocks=0, block_size=True)},
        {"lora_config": SimpleNamespace(max_loras=-1)},
    ],
)
def test_a_limit_that_is_not_there_stops_nothing(
    file: Path, clocks: Clocks, odd: dict[str, object]
):
    (start,) = lines_of(EngineRecord(SimpleNamespace(**vars(CONFIG) | odd)), file)
    assert isinstance(start, EngineStart) and start.limits == EngineLimits()
