"""Sends a span for each request over OTLP, as vLLM does with `--otlp-traces-endpoint`."""

from __future__ import annotations

import asyncio
import os
import time
from http.client import HTTPConnection
from urllib.parse import urlsplit

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from loadgen.emulator.truth import Truth


class TraceExport:
    """Posts spans to an address such as http://127.0.0.1:4318/v1/traces, off the event loop.

    A span whose request has no `traceparent` gets a trace of its own.
    """

    def __init__(self, address: str) -> None:
        self._url = urlsplit(address)

    def request(self, truth: Truth, input_tokens: int) -> None:
        """Sends the span of a request, if it came to its last token."""
        phases = truth.phases_ns
        if phases is None or truth.finished_ns is None:
            return
        queued_ns, prefill_ns, decode_ns = phases
        seconds = {
            "time_in_queue": queued_ns,
            "time_in_model_prefill": prefill_ns,
            "time_in_model_decode": decode_ns,
            "e2e": truth.finished_ns - truth.arrived_ns,
        }
        tokens = {"prompt_tokens": input_tokens, "completion_tokens": sum(truth.event_tokens)}
        body = ExportTraceServiceRequest()
        span = (
            body.resource_spans.add()
            .scope_spans.add()
            .spans.add(
                name="llm_request",
                trace_id=bytes.fromhex(truth.trace) if truth.trace else os.urandom(16),
                span_id=os.urandom(8),
                end_time_unix_nano=time.time_ns(),
            )
        )
        for name, duration_ns in seconds.items():
            attribute = span.attributes.add(key=f"gen_ai.latency.{name}")
            attribute.value.double_value = duration_ns / 1e9
        for name, count in tokens.items():
            span.attributes.add(key=f"gen_ai.usage.{name}").value.int_value = count
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, self._post, body.SerializeToString())

    def _post(self, body: bytes) -> None:
        connection = HTTPConnection(self._url.hostname or "", self._url.port)
        try:
            connection.request(
                "POST", self._url.path, body, {"Content-Type": "application/x-protobuf"}
            )
            connection.getresponse().read()
        except OSError:
            pass  # nobody listens: the span is lost, as vLLM's would be
        finally:
            connection.close()
