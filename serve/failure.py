"""From the log of a server that died to the cause in plain words."""

from __future__ import annotations

import re
from dataclasses import dataclass

LAST_LINES = 15


@dataclass(frozen=True)
class Cause:
    """Why a server died. `kind` is one of the causes below, or "other"."""

    kind: str
    sentence: str


# The first that matches is the cause: vLLM logs one error several times, wrapped in ever more general ones.
_CAUSES = [
    (
        "out_of_memory",
        r"OutOfMemoryError|out of memory|DefaultCPUAllocator: can't allocate|Cannot allocate memory|MemoryError|"
        r"[Nn]o available memory for the cache|less than (?:desired|requested) |larger than the available KV cache memory|"
        r"is larger than the maximum number of tokens that can be stored in KV cache",
        "out of memory; write a smaller serve.kv_cache or serve.max_model_len, or let servers take turns",
    ),
    (
        "port_taken",
        r"[Aa]ddress already in use|EADDRINUSE",
        "its port was taken; name a range of free ones with serve.ports",
    ),
    (
        "model_len",
        r"max_model_len[^\n]*is greater than the derived max_model_len",
        "serve.max_model_len is longer than the model's own context; write a smaller one",
    ),
    (
        "unsupported_architecture",
        r"Model architectures \[[^\n]*\] (?:are not supported|failed to be inspected)|does not recognize this architecture|"
        r"has no vLLM implementation",
        "vLLM does not support this model's architecture",
    ),
    (
        "unsupported_quantization",
        r"Unknown quantization method|quantization method[^\n]*(?:not supported|is not)|Quantization scheme is not supported|"
        r"Failed to find a kernel|No compressed-tensors compatible scheme|does not match the quantization method",
        "vLLM can't run this quantization on this machine",
    ),
    (
        "unsupported_adapter",
        r"LoRA rank \d+ is greater|is not in the (?:model's )?supported LoRA|[Uu]nsupported LoRA|expected target modules in|"
        r"Call to add_lora method failed|does not support LoRA",
        "vLLM can't serve this adapter on this base; write merge instead of adapter",
    ),
    (
        "missing_file",
        r"No such file or directory|FileNotFoundError|Cannot find any model weights|is not a local folder|"
        r"[Cc]an't load (?:tokenizer|the configuration)|does not appear to have a file",
        "a file of the model or adapter is missing",
    ),
]  # fmt: skip


def explain(log: str, exit_code: int | None) -> Cause:
    """The cause that a server's log and exit code show."""
    for kind, pattern, sentence in _CAUSES:
        if re.search(pattern, log):
            return Cause(kind, sentence)
    if exit_code in (-9, 137) or re.search(r"exit ?code:? -9|signal 9|SIGKILL", log):
        return Cause("out_of_memory", "killed from outside, most likely because the machine ran out of memory")
    status = "" if exit_code is None else f" (exit code {exit_code})"
    return Cause("other", f"the last lines of its log say why{status}")


def last_lines(log: str, count: int = LAST_LINES) -> str:
    """The end of a log, less blank lines and the traceback frames between an error and its message."""
    lines = [line for line in log.splitlines() if line.strip()]
    return "\n".join(lines[-count:])
