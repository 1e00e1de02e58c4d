"""The emulator's `/metrics`, under vLLM's names (https://docs.vllm.ai/en/latest/usage/metrics/)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

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


def exposition(running: int, waiting: int, totals: Totals) -> bytes:
    """The text in Prometheus' format. `running`, `waiting`: requests now."""
    lines = [
        *_metric("num_requests_running", "gauge", {"": running}),
        *_metric("num_requests_waiting", "gauge", {"": waiting}),
        *_metric("prompt_tokens_total", "counter", {"": totals.prompt_tokens}),
        *_metric("generation_tokens_total", "counter", {"": totals.generation_tokens}),
        *_metric("num_preemptions_total", "counter", {"": 0}),
        *_metric(
            "request_success_total",
            "counter",
            {f',finished_reason="{end}"': totals.ends[end] for end in ("stop", "length", "abort")},
        ),
    ]
    return "\n".join(lines).encode() + b"\n"


def _metric(name: str, kind: str, values: dict[str, int]) -> list[str]:
    family = f"vllm:{name}"
    rows = [f"{family}{{{_LABELS}{more}}} {float(value)}" for more, value in values.items()]
    return [f"# HELP {family} Of the emulator.", f"# TYPE {family} {kind}", *rows]
