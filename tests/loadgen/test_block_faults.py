"""Every way in which a request can fail in a block: its class, and that the others go on."""

from __future__ import annotations

import subprocess

import pytest

from foundation.http.endpoint import Endpoint
from loadgen import Question
from tests.loadgen.conftest import RunBlock, StartEmulator

FAULTS = {
    "reset-headers": "reset",
    "reset-event": "reset",
    "close-event": "truncated",
    "silent": "timeout_first",
    "stall": "timeout_stall",
    "comments": "timeout_stall",
    "trickle": "timeout_total",
    "no-finish": "aborted",
    "no-done": None,
    "abort": "aborted",
    "error-event": "stream_error",
    "bad-json": "malformed",
    "html": "malformed",
    "long-length": "truncated",
    "short-length": "malformed",
    "http-429": "http_4xx",
    "http-500": "http_5xx",
    "http-503": "http_5xx",
    "http-429-empty": "http_4xx",
    "http-500-empty": "http_5xx",
    "http-503-empty": "http_5xx",
}
SHORT = {"connect": "1s", "first": "1s", "stall": "0.8s", "total": "2s"}


@pytest.mark.parametrize("transport", ["socket", "aiohttp"])
def test_every_fault_ends_in_its_own_class_and_the_others_go_on(
    emulator: StartEmulator, block: RunBlock, transport: str, receiver: str
) -> None:
    server = emulator("--ttft", "5ms", "--itl", "1ms", "--tokens", "30")
    sessions = [
        Question(name, [{"role": "user", "content": f"fault:{name}"}]) for name in [*FAULTS, "none"]
    ] * 2
    journal = block(
        server.endpoint,
        {"rate": 100, "arrivals": "constant", "requests": len(sessions)},
        sessions,
        deadlines=SHORT,
        transport=transport,
    )
    assert {r.prompt_id: r.failure for r in journal.records} == {**FAULTS, "none": None}
    assert len(journal.records) == len(sessions)
    for record in journal.records:
        assert (record.error is None) == (record.failure is None)
        assert record.done_ns - record.scheduled_ns < 3e9


@pytest.mark.parametrize("transport", ["socket", "aiohttp"])
def test_a_connection_reset_at_once(
    emulator: StartEmulator, block: RunBlock, transport: str
) -> None:
    journal = block(
        emulator("--fault", "reset-connect").endpoint,
        {"concurrency": 1, "requests": 2},
        transport=transport,
    )
    # Which of the two it is depends on whether the request was out before the reset came in.
    assert all(r.failure == ("connect" if r.sent_ns is None else "reset") for r in journal.records)
    assert len(journal.records) == 2


@pytest.mark.parametrize("transport", ["socket", "aiohttp"])
def test_nobody_listens(block: RunBlock, transport: str) -> None:
    journal = block(
        Endpoint("variant", "http://127.0.0.1:9/v1", "m"),
        {"rate": 50, "requests": 3},
        transport=transport,
    )
    assert [r.failure for r in journal.records] == ["connect"] * 3
    assert all(r.sent_ns is None for r in journal.records)


@pytest.mark.parametrize("transport", ["socket", "aiohttp"])
def test_a_name_that_does_not_resolve(block: RunBlock, transport: str) -> None:
    journal = block(
        Endpoint("variant", "http://no-such-host.invalid/v1", "m"),
        {"rate": 50, "requests": 1},
        deadlines={"connect": "20s"},
        transport=transport,
    )
    assert [r.failure for r in journal.records] == ["connect"]


def test_tls_to_a_server_that_speaks_none(emulator: StartEmulator, block: RunBlock) -> None:
    server = emulator()
    journal = block(
        Endpoint("variant", f"https://127.0.0.1:{server.port}/v1", "m"),
        {"concurrency": 1, "requests": 1},
        deadlines=SHORT,
    )
    assert journal.records[0].failure in ("tls", "timeout_connect")


@pytest.mark.parametrize("transport", ["socket", "aiohttp"])
def test_a_server_killed_in_the_run_fails_the_rest(
    emulator: StartEmulator, block: RunBlock, transport: str
) -> None:
    server = emulator("--ttft", "10ms", "--itl", "20ms", "--tokens", "10")
    timer = subprocess.Popen(["sh", "-c", f"sleep 2; kill -9 {server.process.pid}"])
    journal = block(
        server.endpoint,
        {"rate": 20, "arrivals": "constant", "requests": 60},
        deadlines=SHORT,
        transport=transport,
    )
    timer.wait()
    failures = [r.failure for r in sorted(journal.records, key=lambda r: r.id)]
    assert failures[0] is None and failures[-1] == "connect"
    assert set(failures) <= {None, "connect", "reset", "truncated"}
