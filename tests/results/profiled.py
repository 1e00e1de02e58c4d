"""Traces of known times, written as torch's profiler writes them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "data" / "profile"
STEP = "execute_context_1(6)_generation_2(2)"
DETAILED = "execute_8_context_1(sq6sk6sqsq36sqsk36)_generation_2(sq2sk30sqsq2sqsk30)"


def event(
    name: str, start: float, duration: float, category: str = "cpu_op", thread: int = 1
) -> dict[str, object]:
    """A complete event; times in µs."""
    return {
        "ph": "X", "cat": category, "name": name, "pid": 7, "tid": thread,
        "ts": start, "dur": duration, "args": {"External id": 1},
    }  # fmt: skip


def step(start: float, duration: float, name: str = STEP) -> dict[str, object]:
    return event(name, start, duration, "user_annotation")


def written(folder: Path, *events: dict[str, object], name: str = "t.json.gz") -> Path:
    """The trace file of these events."""
    head = {"schemaVersion": 1, "note": 'no "list [" here', "traceEvents": [*events]}
    text = json.dumps({**head, "traceName": "end"}, indent=2).encode()
    file = folder / name
    file.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return file


# Two steps of 100 µs, recorded from 0 to 300: by hand, in µs, what each group gets.
TWO_STEPS = (
    event("PyTorch Profiler (0)", 0, 300, "Trace"),
    step(10, 100),
    event("aten::view", 12, 2),
    event("_C::onednn_mm", 20, 50),
    event("aten::empty", 21, 4),
    event("vllm::unified_attention_with_output", 75, 20),
    event("_C::cpu_attention_with_kv_cache", 78, 10),
    event("aten::to", 115, 10),
    event("aten::copy_", 116, 5),
    event("_C::greedy_argmax", 130, 5),
    step(160, 100),
    event("_C::dynamic_scaled_int8_quant", 165, 15),
    event("_C::onednn_scaled_mm", 185, 40),
    event("aten::silu", 230, 10),
    event("my::unknown", 245, 5),
    {"ph": "i", "name": "Record Window End", "ts": 900, "s": "g"},
)
TWO_STEPS_US = {
    "linear": 50 + 40,
    "attention": 20,
    "quantize": 15,
    "elementwise": 10,
    "other": 5,
    "sampling": 10 + 5,
    # In the steps 100-72 and 100-70 and the view; between operators after a step 5 + 5.
    "host": (100 - 72) + 2 + (100 - 70) + 10,
    "idle": 10 + (160 - 135) + (300 - 260),
}
