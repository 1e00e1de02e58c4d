"""`python -m benchmarks.engine_record.cpu FILE`: the CPU that the engine record takes, in us.

Feeds the plugin that vLLM loads with objects of vLLM's own classes, and prints the CPU time of a
step and of a finished request as JSON. The thread that writes the file is included.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

from foundation.run.engine_record import request_key
from serve.vllm.engine_record import PLUGIN, VARIABLE

CALLS, BURSTS = 5_000, 40


def main(file: Path) -> None:
    """Prints `{"step_us", "request_us"}`."""
    from vllm.v1.engine import FinishReason
    from vllm.v1.metrics.stats import (
        FinishedRequestStats,
        IterationStats,
        SchedulerIterationDetails,
        SchedulerStats,
    )

    os.environ[VARIABLE] = str(file)
    plugin = next(iter(entry_points(group="vllm.stat_logger_plugins", name=PLUGIN))).load()
    config = SimpleNamespace(
        scheduler_config=SimpleNamespace(async_scheduling=False),
        parallel_config=SimpleNamespace(
            distributed_executor_backend="mp", pipeline_parallel_size=1
        ),
    )
    record = plugin(config, [0])
    details = SchedulerIterationDetails(7, 1, 36, 3, 3, 33.2)
    scheduler = SchedulerStats(num_running_reqs=4, iteration_details=details)
    done = FinishedRequestStats(
        FinishReason.LENGTH, f"chatcmpl-{request_key(1, 2)}", e2e_latency=1e-3,
        num_prompt_tokens=36, num_generation_tokens=16, queued_time=1e-5, prefill_time=1e-4,
        decode_time=5e-4,
    )  # fmt: skip

    def step(*requests: object) -> None:
        iteration = IterationStats()
        iteration.finished_requests.extend(requests)
        record.record(scheduler, iteration, None, engine_idx=0)

    flush = record._lines.flush
    empty_us = _us(lambda: IterationStats().finished_requests.extend(()), flush)
    step_us = _us(step, flush)
    both_us = _us(lambda: step(done), flush)
    lines = file.read_bytes().count(b"\n")
    if lines != 1 + 3 * CALLS * BURSTS:
        raise SystemExit(f"the record has {lines} lines; it stopped")
    print(json.dumps({"step_us": step_us - empty_us, "request_us": both_us - step_us}))


def _us(call: Callable[[], None], flush: Callable[[], None]) -> float:
    began = time.process_time_ns()
    for _ in range(BURSTS):
        for _ in range(CALLS):
            call()
        flush()
    return (time.process_time_ns() - began) / 1e3 / CALLS / BURSTS


if __name__ == "__main__":
    main(Path(sys.argv[1]))
