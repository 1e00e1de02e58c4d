"""Replicas of a real model: two vLLM servers, loaded in turns or behind vllm-router."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

EXPERIMENT = """\
name: replicas
model: bundled:smollm2-135m-instruct
data: {{prompt: "Count from one to ten."}}
variants: [{{name: base}}]
baseline: base
serve: {{enforce_eager: true, max_model_len: 512, kv_cache: 128MiB, replicas: 2, router: {router}}}
workload:
  stages: [{{rate: 2, requests: 20, warmup: 1s}}]
  blocks: 2
  sampling: {{max_tokens: 8}}
slo: {{latency_p50: 60s}}
budget: {{price: {{accelerator_hour: $3.60}}}}
plan: {{peak_rate: 10}}
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def marked(mark: str) -> list[psutil.Process]:
    """The processes that inherited the mark in their environment."""
    left = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("DYNO_TEST_MARK") == mark and process.pid != os.getpid():
                left.append(process)
    return left


@pytest.mark.parametrize("router", ["round-robin", "vllm-router"])
def test_two_replicas_are_served_measured_and_stopped(tmp_path: Path, router: str) -> None:
    if router == "vllm-router" and importlib.util.find_spec("vllm_router") is None:
        pytest.skip("vllm-router is not installed")
    (tmp_path / "experiment.yaml").write_text(EXPERIMENT.format(router=router))
    mark = uuid.uuid4().hex
    done = subprocess.run(
        [sys.executable, "-m", "dyno.cli", "run", "experiment.yaml"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "DYNO_TEST_MARK": mark},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert marked(mark) == []
    run = tmp_path / "runs" / "replicas"
    keys = [keys_in(run / "engine" / f"base.replica-{n}.jsonl") for n in (1, 2)]
    assert not keys[0] & keys[1]
    for file in run.glob("load/base/*/block-*.jsonl"):
        header, *records = map(json.loads, file.read_text().splitlines()[:-1])
        assert header["replicas"] == 2
        assert {record["failure"] for record in records} == {None}
        origin = header["origin_monotonic_ns"]
        own = [{r["id"] for r in records if f"{origin:016x}{r['id']:016x}" in k} for k in keys]
        assert own[0] | own[1] == {record["id"] for record in records}
        assert abs(len(own[0]) - len(own[1])) <= 1
        shares = Counter(record["replica"] for record in records)
        if router == "round-robin":
            assert shares == {1: len(own[0]), 2: len(own[1])}
            assert {r["id"] for r in records if r["replica"] == 1} == own[0]
        else:
            assert set(shares) == {None} and header["router"] == "vllm-router"
    names = {file.name for file in (run / "telemetry").iterdir()}
    assert names == {"base.parquet", "base.replica-1.parquet", "base.replica-2.parquet"}
    [capacity] = json.loads((run / "plan.json").read_text())["variants"]
    assert [point["rate"] for point in capacity["points"]] == [1.0]


def keys_in(record: Path) -> set[str]:
    """The requests that a server's engine finished."""
    lines = map(json.loads, record.read_text().splitlines())
    return {line["key"] for line in lines if line["kind"] == "request"}
