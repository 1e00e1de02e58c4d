"""From the log of a server that died to the cause in plain words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "out_of_memory", "killed", "port_taken", "model_len", "unsupported_architecture", "unsupported_quantization",
    "unsupported_adapter", "missing_file", "other",
]  # fmt: skip

LAST_LINES = 15
LINE_LENGTH = 300


@dataclass(frozen=True)
class Cause:
    """Why a server died."""

    kind: Kind
    sentence: str


# In this order: vLLM logs one error many times, wrapped in ever more general ones, so the most telling pattern comes first.
_CAUSES: list[tuple[Kind, str, str]] = [
    (
        "out_of_memory",
        r"OutOfMemoryError|CUDA out of memory|DefaultCPUAllocator: can't allocate|Cannot allocate memory|\bMemoryError\b"
        r"|No available memory for the cache blocks|is less than (?:desired|requested) \S+ ?memory|is less than requested memory"
        r"|KV cache is needed, which is larger than the available",
        "out of memory; write a smaller serve.kv_cache or serve.max_model_len, or let servers take turns",
    ),
    (
        "port_taken",
        r"[Aa]ddress already in use",
        "its port was taken; give serve.ports a range of free ones",
    ),
    (
        "model_len",
        r"max_model_len \(\S+\) is greater than the derived max_model_len",
        "serve.max_model_len is longer than the model's own context; write a smaller one",
    ),
    (
        "unsupported_architecture",
        r"Model architectures \[.*?\] (?:are not supported|failed to be inspected)|does not recognize this architecture"
        r"|has no vLLM implementation",
        "vLLM does not support this model's architecture",
    ),
    (
        "unsupported_quantization",
        r"Unknown quantization method|[Qq]uantization (?:method|scheme)\b.{0,60}\bnot supported"
        r"|Failed to find a kernel that can implement|No compressed-tensors compatible scheme",
        "vLLM can't run this quantization on this machine",
    ),
    (
        "unsupported_adapter",
        r"LoRA rank \d+ is greater than|expected target modules in|Adapter bias is not supported|does not support LoRA yet"
        r"|vLLM does not (?:yet )?support \S*(?:DoRA|LoRA)",
        "vLLM can't serve this adapter on this base; write merge instead of adapter",
    ),
    (
        "missing_file",
        r"No adapter found for|Cannot find any model weights|Couldn't instantiate the backend tokenizer"
        r"|No such file or directory: '|Repo id must be in the form|does not appear to have a file named",
        "a file of the model or the adapter is missing",
    ),
    (
        "killed",
        r"Worker proc \S+ died unexpectedly|EngineDeadError",
        "one of its processes was killed from outside, as the kernel does when memory runs out",
    ),
]

# How vLLM's processes begin a log line: "(EngineCore pid=16181) ERROR 11-21 22:44:45 [core.py:1510] ".
_PREFIX = r"^(?:\(\S+ pid=\d+\) (?:[A-Z]+ \S+ \S+ \[\S+\] )?)?"
_EXCEPTION = re.compile(_PREFIX + r"((?:\w+\.)*\w*(?:Error|Exception): .+|\w+\.py: error: .+)$", re.MULTILINE)
# Frames of tracebacks, and what a server says only because it ends: its web server shutting down, leaks found at exit.
_CHATTER = re.compile(
    _PREFIX + r"(?: {4}| {2}File |Traceback |\s*$)|launcher\.py:\d+\] Route: |nanobind|^ - (?:leaked|\.\.\. skipped)"
    r"|resource_tracker|warnings\.warn|^INFO: {4}|\[shutdown\]|errors\.pydantic\.dev"
)


def explain(log: str, exit_code: int) -> Cause:
    """The cause that a server's log shows."""
    for kind, pattern, sentence in _CAUSES:
        if re.search(pattern, log):
            return Cause(kind, sentence)
    if exceptions := _EXCEPTION.findall(log):
        return Cause("other", exceptions[-1][:LINE_LENGTH])
    return Cause("other", f"it ended with exit code {exit_code}")


def last_lines(log: str) -> str:
    """The end of a log as a person wants it: without tracebacks' frames and a server's last chatter, no line too long."""
    telling = [line for line in log.splitlines() if line.strip() and not _CHATTER.search(line)]
    return "\n".join(line[:LINE_LENGTH] for line in telling[-LAST_LINES:])
