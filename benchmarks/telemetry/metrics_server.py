"""`python -m benchmarks.telemetry.metrics_server PORT [whole]`: a page of metrics like vLLM's.

It is as long, and served in the same way: by prometheus_client's ASGI application in uvicorn. With
`whole` it answers as a server that can't select metrics.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_asgi_app

from serve.telemetry.engines import SERIES

_LABELS = ("model_name", "engine")
_HISTOGRAMS = 24
_BUCKETS = [0.1 * step for step in range(1, 20)]


def page() -> CollectorRegistry:
    """Metrics of vLLM that a sample reads, among histograms that it does not read: 50 KB."""
    registry = CollectorRegistry()
    for name in SERIES:
        if not name.startswith("vllm:") or name.endswith(("_count", "_sum", "_by_reason")):
            continue
        kind = Counter if name.endswith("_total") else Gauge
        kind(name, name, _LABELS, registry=registry).labels("a/model", "0").inc(3)
    for name in ("iteration_tokens_total", *(f"time_{i}_seconds" for i in range(_HISTOGRAMS))):
        histogram = Histogram(f"vllm:{name}", name, _LABELS, registry=registry, buckets=_BUCKETS)
        histogram.labels("a/model", "0").observe(0.5)
    return registry


def main(port: str, mode: str = "selects") -> None:
    """Serves the page on a port of this machine until it is ended."""
    selecting = make_asgi_app(page())

    async def whole(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await selecting({**scope, "query_string": b""}, receive, send)

    app = whole if mode == "whole" else selecting
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning", lifespan="off")


if __name__ == "__main__":
    main(*sys.argv[1:])
