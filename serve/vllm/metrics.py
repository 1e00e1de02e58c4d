"""Reads vLLM's `/metrics`: the numbers of a telemetry sample in Prometheus' text format."""

from __future__ import annotations

import math
import re
from collections import defaultdict

_LARGEST = (2**63 - 1) // 2
"""Parquet holds 64-bit integers; their limit itself is no exact float, half of it is safe."""
# Field of `TelemetrySample`: vLLM's metric, and its type.
_METRICS: dict[str, tuple[str, type[int] | type[float]]] = {
    "running": ("vllm:num_requests_running", int),
    "waiting": ("vllm:num_requests_waiting", int),
    "kv_cache_usage": ("vllm:kv_cache_usage_perc", float),
    "prefix_cache_queries": ("vllm:prefix_cache_queries_total", int),
    "prefix_cache_hits": ("vllm:prefix_cache_hits_total", int),
    "preemptions": ("vllm:num_preemptions_total", int),
    "prompt_tokens": ("vllm:prompt_tokens_total", int),
    "generation_tokens": ("vllm:generation_tokens_total", int),
}
_LINE = re.compile(r"^(vllm:[a-z_]+)(?:\{[^}\n]*\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?$", re.MULTILINE)


def read_metrics(text: str) -> dict[str, int | float]:
    """The fields of a `TelemetrySample` in a Prometheus text, summed over label sets (engines).

    Leaves out a metric that is no number, is negative, or is larger than a file can hold.
    """
    totals: defaultdict[str, float] = defaultdict(float)
    for name, value in _LINE.findall(text):
        try:
            totals[name] += float(value)
        except ValueError:
            totals[name] = math.nan
    return {
        field: kind(totals[name])
        for field, (name, kind) in _METRICS.items()
        if 0 <= totals.get(name, -1) <= _LARGEST
    }
