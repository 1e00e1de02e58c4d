"""Reads the spans that vLLM exports, one a request, as engine records.

The client's `traceparent` makes a request's key the trace id of its span. The attributes are those
of vLLM 0.32 (`SpanAttributes` in `vllm/tracing/utils.py`): durations in seconds. The moments of a
span are on the clock of the server's host, so they are not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from foundation.run.engine_record import EngineRequest
from foundation.run.records import EXACT
from serve.otlp.received import Received

_QUEUED = "gen_ai.latency.time_in_queue"
_PREFILL = "gen_ai.latency.time_in_model_prefill"
_DECODE = "gen_ai.latency.time_in_model_decode"
_IN_SERVER = "gen_ai.latency.e2e"
_INPUT = "gen_ai.usage.prompt_tokens"
_OUTPUT = "gen_ai.usage.completion_tokens"


def read_spans(body: bytes, begun_ns: int, now_ns: int, received: Received) -> list[EngineRequest]:
    """The requests in a body, and counts of them and of what is left out in `received`.

    A key begins with its block's origin: it is ours if that lies between `begun_ns` and `now_ns`
    (CLOCK_MONOTONIC, ns). Raises ValueError for a body that is no OTLP.
    """
    export = ExportTraceServiceRequest()
    try:
        export.ParseFromString(body)
    except DecodeError as error:
        raise ValueError("no ExportTraceServiceRequest") from error
    requests = []
    for resource in export.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                numbers = _numbers(span)
                origin_ns = int.from_bytes(span.trace_id[:8], "big")
                is_ours = len(span.trace_id) == 16 and begun_ns <= origin_ns <= now_ns
                if not is_ours or _QUEUED not in numbers:
                    received.others += 1
                elif (request := _request(span.trace_id.hex(), numbers)) is None:
                    received.wrong += 1
                else:
                    requests.append(request)
    return requests


def _numbers(span: Span) -> dict[str, float]:
    """The attributes of a span that are numbers."""
    numbers: dict[str, float] = {}
    for attribute in span.attributes:
        kind = attribute.value.WhichOneof("value")
        if kind == "double_value":
            numbers[attribute.key] = attribute.value.double_value
        elif kind == "int_value":
            numbers[attribute.key] = attribute.value.int_value
    return numbers


def _request(key: str, numbers: Mapping[str, float]) -> EngineRequest | None:
    """The record of a request; None where a time is missing or impossible, or a count is."""
    fields = {
        "key": key,
        "finished_ns": None,
        "in_server_ns": _nanoseconds(numbers.get(_IN_SERVER)),
        "queued_ns": _nanoseconds(numbers.get(_QUEUED)),
        "prefill_ns": _nanoseconds(numbers.get(_PREFILL)),
        "decode_ns": _nanoseconds(numbers.get(_DECODE)),
        "input_tokens": numbers.get(_INPUT),
        "output_tokens": numbers.get(_OUTPUT),
    }
    try:
        return msgspec.convert({"kind": "request", **fields}, EngineRequest)
    except msgspec.ValidationError:
        return None


def _nanoseconds(seconds: float | None) -> int | None:
    if seconds is None or not isfinite(seconds) or not 0 <= seconds * 1e9 <= EXACT:
        return None
    return round(seconds * 1e9)
