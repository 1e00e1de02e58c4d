"""A sampling process beside a server: its samples, its files, and what it misses."""

from __future__ import annotations

import asyncio
import os
from itertools import pairwise
from pathlib import Path

import msgspec
import psutil
import pyarrow.parquet as pq
import pytest

from foundation.cores import on_processors
from foundation.http.endpoint import Endpoint
from foundation.run.records import TelemetrySample
from foundation.run.telemetry import read_samples
from serve.telemetry import SampledServer, Telemetry
from serve.telemetry import telemetry as parent
from serve.telemetry.replicas import joined_samples, write_files
from serve.telemetry.server_samples import ServerSamples
from tests.serve.metrics_server import answering

PAGE = b"vllm:num_requests_waiting 4\nvllm:num_requests_running NaN\nvllm:prompt_tokens_total 7\n"


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


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
    names = files(tmp_path / "telemetry")
    assert [file.name for file in names] == ["a.parquet", "b.parquet"]
    rows = pq.read_table(names[0]).to_pylist()
    assert rows == pq.read_table(names[1]).to_pylist() and len(rows) >= 4
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


async def test_a_sampling_process_that_says_very_much_is_not_stopped_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe holds 64 KiB."""
    program = "head -c 300000 /dev/zero >&2; echo hello; echo '{}'; cat >/dev/null; echo last >&2"
    monkeypatch.setattr(parent, "run_module", lambda _: ["sh", "-c", program])
    server = SampledServer((Endpoint("a", "http://127.0.0.1:9/v1", "m"),), None)
    async with asyncio.timeout(10):
        async with Telemetry([server], tmp_path) as telemetry:
            pass
    [trouble] = telemetry.troubles
    assert trouble.endswith("last")


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


async def taken(samples: ServerSamples, at_ns: int) -> None:
    task = samples.start({"gpu_energy_j": 1.0}, at_ns)
    assert task is not None
    await task


async def test_a_server_whose_processes_are_gone_is_sampled_no_more(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec("sleep", "60")
    async with answering(PAGE) as server:
        samples = ServerSamples(SampledServer((server.endpoint("a"),), process.pid))
        await taken(samples, 1)
        process.kill()
        await process.wait()
        await taken(samples, 2)
        assert samples.over and samples.start({}, 3) is None
        await samples.close()
    write_files([samples], tmp_path, {})
    table, _ = read_samples(tmp_path / "a.parquet", ("gpu_energy_j",))
    assert table.to_pylist() == [{"monotonic_ns": 1, "gpu_energy_j": 1.0}]


async def test_a_server_of_somebody_else_has_no_numbers_of_this_machine(tmp_path: Path) -> None:
    async with answering(PAGE) as server:
        samples = ServerSamples(SampledServer((server.endpoint("a"),), None))
        await taken(samples, 1)
        await samples.close()
    write_files([samples], tmp_path, {})
    table, absent = read_samples(tmp_path / "a.parquet", ("gpu_energy_j", "waiting"))
    assert table.to_pylist() == [{"monotonic_ns": 1, "gpu_energy_j": None, "waiting": 4}]
    assert set(absent.values()) == {"somebody else runs the server"}


async def test_a_server_of_somebody_else_without_metrics_is_soon_left_alone(tmp_path: Path) -> None:
    async with answering(b"<html>", status=404) as server:
        samples = ServerSamples(SampledServer((server.endpoint("a"),), None))
        for at_ns in range(3):
            assert not samples.over
            await taken(samples, at_ns)
        assert samples.over and await samples.close() == []
        write_files([samples], tmp_path, {})
    assert files(tmp_path) == []


def test_samples_of_replicas_are_added_at_the_moments_that_both_have() -> None:
    def sample(at_ns: int, **fields: float | None) -> TelemetrySample:
        clocks = {"monotonic_ns": at_ns, "unix_ns": at_ns, "rss_bytes": 5, "cpu_s": 0.5}
        return msgspec.convert(clocks | fields, TelemetrySample)

    one = [
        sample(1, running=2, kv_cache_usage=0.2, host_busy_s=9.0, gpu_energy_j=4.0, waiting=1),
        sample(2, running=3),
    ]
    other = [
        sample(1, running=4, kv_cache_usage=0.4, host_busy_s=9.0, gpu_energy_j=4.0),
        sample(3, running=5),
    ]
    [both] = joined_samples([one, other])
    assert (both.monotonic_ns, both.running, both.rss_bytes, both.cpu_s) == (1, 6, 10, 1.0)
    assert both.kv_cache_usage == pytest.approx(0.3)
    assert (both.host_busy_s, both.gpu_energy_j, both.waiting) == (9.0, 4.0, None)
