"""A sampling process beside a server: its samples, its files, and what it misses."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from foundation.cores import on_processors
from foundation.http.endpoint import Endpoint
from serve.telemetry import SampledServer, Telemetry
from serve.telemetry import telemetry as parent
from tests.serve.metrics_server import answering

PAGE = b"vllm:num_requests_waiting 4\nvllm:num_requests_running NaN\nvllm:prompt_tokens_total 7\n"


async def test_servers_are_sampled_and_every_variant_has_its_file(tmp_path: Path) -> None:
    async with answering(PAGE) as ours, answering(b"<html>", status=404) as theirs:
        here = SampledServer((ours.endpoint("a"), ours.endpoint("b")), os.getpid())
        elsewhere = SampledServer((theirs.endpoint("c"),), None)
        cores = sorted(os.sched_getaffinity(0))
        servers = frozenset(cores[-1:])
        telemetry = Telemetry([here, elsewhere], tmp_path / "telemetry", servers)
        with on_processors(frozenset(cores[:1])):
            await telemetry.__aenter__()
        try:
            assert telemetry._child is not None
            affinity = psutil.Process(telemetry._child.pid).cpu_affinity()
            assert set(affinity) == {cores[0], cores[-1]}
            for _ in range(4):
                await telemetry.sample()
            during = len(ours.targets)
        finally:
            await telemetry.__aexit__(None, None, None)
    assert during >= 4 and len(theirs.targets) <= 6
    assert telemetry.troubles == [
        "a: its /metrics is not believed: vllm:num_requests_running (is nan)"
    ]
    files = sorted((tmp_path / "telemetry").iterdir())
    assert [file.name for file in files] == ["a.parquet", "b.parquet"]
    rows = pq.read_table(files[0]).to_pylist()
    assert rows == pq.read_table(files[1]).to_pylist() and len(rows) >= 4
    assert all(a["monotonic_ns"] < b["monotonic_ns"] for a, b in pairwise(rows))
    assert {(row["waiting"], row["running"], row["prompt_tokens"]) for row in rows} == {
        (4, None, 7)
    }
    last = rows[-1]
    assert last["rss_bytes"] > 2**20 and last["cpu_s"] > 0 and last["minor_faults"] > 0
    assert last["cpu_s"] == pytest.approx(last["api_cpu_s"] + last["engine_cpu_s"])
    assert last["host_busy_s"] > 0 and last["host_available_bytes"] > 0


async def test_a_sampling_process_that_died_costs_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parent, "run_module", lambda _: ["sh", "-c", "echo no room >&2; exit 1"])
    server = SampledServer((Endpoint("a", "http://127.0.0.1:9/v1", "m"),), None)
    async with Telemetry([server], tmp_path) as telemetry:
        await telemetry.sample()
        await telemetry.sample()
    assert telemetry.troubles == ["the sampling process failed: no room"]


async def test_a_sampling_process_that_can_not_start_costs_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parent, "run_module", lambda _: [str(tmp_path / "nothing")])
    server = SampledServer((Endpoint("a", "http://127.0.0.1:9/v1", "m"),), None)
    async with Telemetry([server], tmp_path) as telemetry:
        await telemetry.sample()
    [trouble] = telemetry.troubles
    assert "can't start (No such file or directory)" in trouble


async def test_a_process_that_stopped_answering_is_waited_for_no_longer_than_it_may_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parent, "run_module", lambda _: ["sleep", "60"])
    for name in ("_START_S", "_SAMPLE_S", "_END_S"):
        monkeypatch.setattr(parent, name, 0.01)
    server = SampledServer((Endpoint("a", "http://127.0.0.1:9/v1", "m"),), None)
    async with Telemetry([server], tmp_path) as telemetry:
        await telemetry.sample()
    assert telemetry.troubles == ["the sampling process did not end in 0.01 s"]
