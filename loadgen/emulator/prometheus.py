"""The emulator's `/metrics`, under vLLM's names (https://docs.vllm.ai/en/latest/usage/metrics/)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from loadgen.emulator.truth import Truth

_LABELS = 'engine="0",model_name="emulated"'


@dataclass
class Totals:
    """Tokens of requests, and how many ended with a reason: "stop", "length" or "abort"."""

    prompt_tokens: int = 0
    generation_tokens: int = 0
    ends: Counter[str] = field(default_factory=Counter)

    def add(self, truth: Truth, prompt_tokens: int) -> None:
        """Adds the tokens of a request so far."""
        self.prompt_tokens += prompt_tokens if truth.event_ns else 0
        self.generation_tokens += sum(truth.event_tokens)


class EngineGauges(NamedTuple):
    """The engine's requests now, and what its scheduler counted; None for an engine without one.

    `kv_cache_usage`: the share of the blocks in use. `prefix_queries`, `prefix_hits`: prompt tokens
    that were looked up in the prefix cache, and known. `steps`, `step_tokens`: steps that are over,
    and tokens computed in them.
    """

    running: int
    waiting: int
    kv_cache_usage: float | None = None
    prefix_queries: int | None = None
    prefix_hits: int | None = None
    preemptions: int = 0
    steps: int | None = None
    step_tokens: int | None = None


def exposition(gauges: EngineGauges, totals: Totals) -> bytes:
    """The text in Prometheus' format."""
    lines = [
        *_metric("num_requests_running", "gauge", {"": gauges.running}),
        *_metric("num_requests_waiting", "gauge", {"": gauges.waiting}),
        *_metric("kv_cache_usage_perc", "gauge", {"": gauges.kv_cache_usage}),
        *_metric("prefix_cache_queries_total", "counter", {"": gauges.prefix_queries}),
        *_metric("prefix_cache_hits_total", "counter", {"": gauges.prefix_hits}),
        *_metric("iteration_tokens_total_count", "counter", {"": gauges.steps}),
        *_metric("iteration_tokens_total_sum", "counter", {"": gauges.step_tokens}),
        *_metric("prompt_tokens_total", "counter", {"": totals.prompt_tokens}),
        *_metric("generation_tokens_total", "counter", {"": totals.generation_tokens}),
        *_metric("num_preemptions_total", "counter", {"": gauges.preemptions}),
        *_metric(
            "request_success_total",
            "counter",
            {f',finished_reason="{end}"': totals.ends[end] for end in ("stop", "length", "abort")},
        ),
    ]
    return "\n".join(lines).encode() + b"\n"


def _metric(name: str, kind: str, values: Mapping[str, float | None]) -> list[str]:
    family = f"vllm:{name}"
    rows = [
        f"{family}{{{_LABELS}{more}}} {float(value)}"
        for more, value in values.items()
        if value is not None
    ]
    if not rows:
        return []
    return [f"# HELP {family} Of the emulator.", f"# TYPE {family} {kind}", *rows]
