"""`dyno load --traces`: a server elsewhere sends its requests' times over OTLP."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from foundation.run.engine_records import read_engine_records
from foundation.run.engine_times import RESPONSE_METRICS, TRACES
from foundation.run.journal import Journal, read_journal
from loadgen.emulator.process import emulator
from tests.dyno.test_cli import dyno
from tests.tiny_model import build_tiny_model
from tests.vllm_server import free_port, vllm_server

LOAD = ("--model", "m", "--prompt", "Hi", "--rate", "20", "--requests", "40", "--blocks", "2")


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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_vllm_s_spans_are_of_the_requests_that_its_answers_time(tmp_path: Path) -> None:
    """Its answers bring the same durations by another way, their `metrics`."""
    port = free_port()
    address = f"http://127.0.0.1:{port}/v1/traces"
    options = ("--otlp-traces-endpoint", address, "--enable-per-request-metrics")
    protocol = {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}
    model = build_tiny_model(tmp_path / "model")
    with vllm_server(model.path, tmp_path / "vllm.log", *options, **protocol) as server:
        server.ask("completions", {"prompt": "Hi", "max_tokens": 1})
        done = dyno("load", "--url", server.url, *LOAD, "--traces", str(port), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "load"
    [stage] = json.loads((run / "summary.json").read_text())["variants"][0]["stages"]
    assert (stage["waterfall"]["source"], stage["waterfall"]["n"]) == ("traces", 40)
    records = read_engine_records(run / "engine")
    assert f"the server timed {len(records)} requests" in done.stdout
    journals = [read_journal(file) for file in (run / "load" / "url").glob("*/block-*.jsonl")]
    assert len(journals) == 2
    for journal in journals:
        assert isinstance(journal, Journal)
        by_answer, by_span = journal.requests.engine, records.timed(journal).requests.engine
        assert set(by_answer.source) == {RESPONSE_METRICS} and set(by_span.source) == {TRACES}
        for name in ("queued", "prefill", "decode"):
            np.testing.assert_allclose(
                getattr(by_span, name), getattr(by_answer, name), rtol=0, atol=1_000
            )
