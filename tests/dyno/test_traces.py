"""`dyno load --traces`: a server elsewhere sends its requests' times over OTLP."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from foundation.run.engine_records import read_engine_records
from loadgen.emulator.process import emulator
from tests.dyno.test_cli import dyno

LOAD = ("--model", "m", "--prompt", "Hi", "--rate", "20", "--requests", "40", "--blocks", "2")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.mark.slow
def test_a_server_s_traces_say_where_its_time_goes(tmp_path: Path) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}/v1/traces"
    times = ["--queue", "50ms", "--ttft", "30ms", "--itl", "2ms", "--tokens", "11"]
    with emulator(*times, "--otlp", address, truth=tmp_path / "truth.jsonl") as endpoint:
        url = endpoint.base_url
        done = dyno("load", "--url", url, *LOAD, "--traces", str(port), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"the server needs --otlp-traces-endpoint {address}" in done.stdout
    run = tmp_path / "runs" / "load"
    [stage] = json.loads((run / "summary.json").read_text())["variants"][0]["stages"]
    waterfall = stage["waterfall"]
    assert waterfall["source"] == "traces" and waterfall["n"] == 40
    assert 50 <= waterfall["segments"]["queued"]["mean"]["value"] < 70
    assert 30 <= waterfall["segments"]["prefill"]["mean"]["value"] < 50
    records = read_engine_records(run / "engine")
    assert f"the server timed {len(records)} requests" in done.stdout
    assert records.left_out.note() is None
