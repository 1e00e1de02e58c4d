"""Traces over OTLP: vLLM's own exporter against the listening process, and bad input to it."""

from __future__ import annotations

import gzip
import math
import os
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from foundation.errors import BadInput
from foundation.run.engine_record import EngineLine, EngineRequest, EngineStart, request_key
from foundation.run.engine_records import read_engine_records
from loadgen.event_loop import run
from serve.otlp import traces as run_side
from serve.otlp.received import LARGEST, Received
from serve.otlp.spans import read_spans
from serve.otlp.traces import traces

LATENCY = "gen_ai.latency."
TIMES = {
    f"{LATENCY}time_in_queue": 0.2,
    f"{LATENCY}time_in_model_prefill": 0.05,
    f"{LATENCY}time_in_model_decode": 0.4,
    f"{LATENCY}e2e": 0.7,
    "gen_ai.usage.prompt_tokens": 12,
    "gen_ai.usage.completion_tokens": 5,
    "gen_ai.request.id": "chatcmpl-x",
}
BEGUN_NS, NOW_NS = 1_000, 2_000


def export(*spans: tuple[str, dict[str, float | str]]) -> bytes:
    """A body with spans: the trace id of each, and its attributes."""
    body = ExportTraceServiceRequest()
    scope = body.resource_spans.add().scope_spans.add()
    for trace_id, attributes in spans:
        span = scope.spans.add(trace_id=bytes.fromhex(trace_id), name="llm_request")
        for key, value in attributes.items():
            attribute = span.attributes.add(key=key)
            if isinstance(value, str):
                attribute.value.string_value = value
            elif isinstance(value, int):
                attribute.value.int_value = value
            else:
                attribute.value.double_value = value
    return body.SerializeToString()


def test_a_span_is_a_request_with_its_times_and_no_moment() -> None:
    received, key = Received(), request_key(1500, 7)
    assert read_spans(export((key, TIMES)), BEGUN_NS, NOW_NS, received) == [
        EngineRequest(
            key=key,
            finished_ns=None,
            in_server_ns=700_000_000,
            queued_ns=200_000_000,
            prefill_ns=50_000_000,
            decode_ns=400_000_000,
            input_tokens=12,
            output_tokens=5,
        )
    ]
    assert received == Received()


@pytest.mark.parametrize("name", [name for name in TIMES if name.rpartition(".")[2] != "id"])
@pytest.mark.parametrize("value", [-0.1, -1, math.nan, math.inf, 1e300, "0.2", 2**62])
def test_a_time_or_count_that_is_none_is_left_out(name: str, value: float | str) -> None:
    received = Received()
    body = export((request_key(1500, 7), TIMES | {name: value}))
    requests = read_spans(body, BEGUN_NS, NOW_NS, received)
    if name == f"{LATENCY}e2e":  # the server's clock was set
        assert [request.in_server_ns for request in requests] == [None]
    else:
        assert requests == []
        assert received.wrong + received.others == 1


def test_spans_of_other_requests_and_of_other_work_are_counted() -> None:
    received = Received()
    others = [request_key(origin, 1) for origin in (BEGUN_NS - 1, NOW_NS + 1)]
    short = request_key(1500, 1)[:16]
    spans = [*((key, TIMES) for key in (*others, short)), (request_key(1500, 1), {"a": 1})]
    assert read_spans(export(*spans), BEGUN_NS, NOW_NS, received) == []
    assert received == Received(others=4)
    assert received.sentence() == "the server timed 0 requests; left out: 4 spans of other work"
    assert Received().sentence().startswith("none came")
    with pytest.raises(ValueError):
        read_spans(b"\xff" * 9, BEGUN_NS, NOW_NS, received)


def post(address: str, body: bytes, **headers: str) -> int:
    url = urlsplit(address)
    connection = HTTPConnection("127.0.0.1", url.port)
    fields = {"Content-Type": "application/x-protobuf"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    connection.request("POST", url.path, body, fields)
    status = connection.getresponse().status
    connection.close()
    return status


def test_what_comes_is_kept_and_what_is_none_is_counted_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_side, "LAST_SPANS_S", 0.05)
    key, file, lines = "", tmp_path / "engine" / "traces.jsonl", []

    def send(address: str) -> None:
        nonlocal key
        key = request_key(time.monotonic_ns(), 3)
        good = export((key, TIMES))
        assert post(address, gzip.compress(good), Content_Encoding="gzip") == 200
        mixed = export((key, TIMES | {f"{LATENCY}time_in_queue": -1.0}), ("ab" * 16, TIMES))
        assert post(address, mixed) == 200
        assert post(address, b"\xff" * 100) == 400
        assert post(address, b"") == 400
        assert post(address, good, Content_Encoding="gzip") == 400
        assert post(address, good, Content_Type="application/json") == 400
        assert post(address, gzip.compress(bytes(LARGEST + 1)), Content_Encoding="gzip") == 413
        assert post(address.replace("traces", "metrics"), good) == 404

    async def main() -> None:
        async with traces(0, file, lines.append) as address:
            send(address)
            with pytest.raises(BadInput, match="another"):
                await traces(urlsplit(address).port or 0, file, lines.append).__aenter__()

    run(main())
    first, _, last = lines
    assert "--otlp-traces-endpoint http://127.0.0.1:" in first
    assert "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf" in first
    assert last == (
        "traces: the server timed 1 request; left out: 1 span of other work, "
        "1 span whose times are none, 4 bodies that are no OTLP protobuf, 1 body over 16 MiB"
    )
    start, request = (
        msgspec.json.decode(line, type=EngineLine) for line in file.read_bytes().splitlines()
    )
    assert isinstance(start, EngineStart) and start.source.startswith("OTLP")
    assert isinstance(request, EngineRequest) and request.key == key


VLLM = """
import os, time
from opentelemetry.trace import SpanKind, get_tracer_provider
from vllm.tracing import extract_trace_context, init_tracer, instrument_manual
from vllm.tracing.utils import SpanAttributes as Name
init_tracer("vllm.llm_engine", os.environ["ADDRESS"])
context = extract_trace_context({"traceparent": os.environ["PARENT"]})
attributes = {
    Name.GEN_AI_LATENCY_E2E: 0.7,
    Name.GEN_AI_LATENCY_TIME_IN_QUEUE: 0.2,
    Name.GEN_AI_LATENCY_TIME_IN_MODEL_PREFILL: 0.05,
    Name.GEN_AI_LATENCY_TIME_IN_MODEL_DECODE: 0.4,
    Name.GEN_AI_USAGE_PROMPT_TOKENS: 12,
    Name.GEN_AI_USAGE_COMPLETION_TOKENS: 5,
    Name.GEN_AI_REQUEST_ID: "chatcmpl-x",
}
instrument_manual("llm_request", time.time_ns(), attributes=attributes, context=context,
                  kind=SpanKind.SERVER)
get_tracer_provider().force_flush()
"""


@pytest.mark.slow
def test_vllm_s_own_exporter_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_side, "LAST_SPANS_S", 0.05)
    lines: list[str] = []

    def send(address: str) -> None:
        key = request_key(time.monotonic_ns(), 3)
        more = {
            "ADDRESS": address,
            "PARENT": f"00-{key}-0000000000000001-01",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        }
        subprocess.run([sys.executable, "-c", VLLM], check=True, env=os.environ | more)

    async def main() -> None:
        async with traces(0, tmp_path / "traces.jsonl", lines.append) as address:
            send(address)

    run(main())
    assert lines[-1] == "traces: the server timed 1 request"
    records = read_engine_records(tmp_path)
    assert records.durations.tolist() == [[200_000_000, 50_000_000, 400_000_000]]
