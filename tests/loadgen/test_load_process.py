"""The process of a load: killed, short of memory, and what it imports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.loadgen.conftest import StartEmulator, read_journal

CHILD = """
import asyncio, sys
from pathlib import Path
from foundation.http.endpoint import Endpoint
from foundation.progress import Silent
from loadgen import BlockPlan, Question, run_block
from loadgen.event_loop import run
from loadgen.config import WorkloadConfig
stages = [{"rate": 100, "duration": "60s"}]
config = WorkloadConfig.model_validate({"stages": stages, "warmup": "0s"})
sessions = [Question("q", [{"role": "user", "content": "hello"}])]
plan = BlockPlan(Endpoint("v", sys.argv[1], "m"), config.stages[0], 1, 0, sessions, "plain", config)
run(run_block(plan, Path(sys.argv[2]), Silent(), asyncio.Event()))
"""


def test_a_killed_load_generator_loses_at_most_a_second(
    emulator: StartEmulator, tmp_path: Path
) -> None:
    server = emulator("--ttft", "5ms", "--tokens", "2")
    path = tmp_path / "killed.jsonl"
    child = subprocess.Popen([sys.executable, "-c", CHILD, server.endpoint.base_url, str(path)])
    while not path.exists() or path.stat().st_size < 20_000:
        time.sleep(0.05)
        assert child.poll() is None
    os.kill(child.pid, signal.SIGKILL)
    killed_ns = time.monotonic_ns()
    child.wait()
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join(lines[:-1]) + b"\n")  # a reader drops the torn line
    journal = read_journal(path)
    assert journal.end is None and len(journal.records) > 20
    written = {record.id for record in journal.records}
    horizon = killed_ns - journal.header.origin_monotonic_ns - 1_000_000_000
    last = max(record.done_ns for record in journal.records)
    assert last >= horizon
    early = [r.id for r in journal.records if r.scheduled_ns < horizon - 1_000_000_000]
    assert set(range(max(early, default=-1) + 1)) <= written


FAILING = CHILD.replace('"rate": 100, "duration": "60s"', '"rate": 2000, "duration": "3s"').replace(
    '"warmup": "0s"', '"warmup": "0s", "transport": "aiohttp"'
)


def test_memory_stays_small_when_everything_fails(tmp_path: Path) -> None:
    """A block limits garbage collection, and failed requests are garbage that only it can free."""
    # ru_maxrss would be this process's own, which a child inherits.
    code = FAILING + (
        "print(next(line.split()[1] for line in open('/proc/self/status') "
        "if line.startswith('VmHWM')))"
    )
    path = tmp_path / "failed.jsonl"
    command = [sys.executable, "-c", code, "http://127.0.0.1:9/v1", str(path)]
    peak_kb = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert len(read_journal(path).records) > 5000
    assert peak_kb < 150_000


def test_importing_loadgen_brings_nothing_heavy() -> None:
    heavy = ["pandas", "pyarrow", "scipy", "torch", "transformers"]
    code = f"import sys, json, loadgen; print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert json.loads(process.stdout) == []
