"""Finds the cause of a server's failure in its log, in plain words."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from foundation.errors import SystemFailed

Kind = Literal[
    "out_of_memory", "killed", "port_taken", "model_len", "unsupported_architecture",
    "unsupported_quantization", "unsupported_adapter", "missing_file", "other",
]  # fmt: skip

MOST_LINES = 15
LAST_WORDS = 3
LINE_LENGTH = 300


@dataclass(frozen=True)
class Cause:
    """Why a server died."""

    kind: Kind
    sentence: str


class ServerFailed(SystemFailed):
    """A server did not start, died or hung, or another process answers in its place.

    `variants`: those it serves; they fail with it.
    """

    def __init__(self, message: str, detail: str, variants: Iterable[str]) -> None:
        super().__init__(message, detail)
        self.variants = tuple(variants)


class TakenOver(ServerFailed):
    """Another process listens on the server's port, so earlier answers may be its own."""


# Ordered: vLLM wraps an error in ever more general ones, so the most specific patterns come first.
_CAUSES: list[tuple[Kind, str, str]] = [
    (
        "out_of_memory",
        r"OutOfMemoryError|CUDA out of memory|DefaultCPUAllocator: can't allocate"
        r"|Cannot allocate memory|\bMemoryError\b|No available memory for the cache blocks"
        r"|is less than (?:desired|requested) \S+ ?memory|is less than requested memory"
        r"|KV cache is needed, which is larger than the available",
        "out of memory; write a smaller serve.kv_cache or serve.max_model_len, "
        "or let servers take turns",
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
        r"Model architectures \[.*?\] (?:are not supported|failed to be inspected)"
        r"|does not recognize this architecture|has no vLLM implementation",
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
        r"LoRA rank \d+ is greater than|expected target modules in|Adapter bias is not supported"
        r"|does not support LoRA yet|vLLM does not (?:yet )?support \S*(?:DoRA|LoRA)",
        "vLLM can't serve this adapter on this base; write merge instead of adapter",
    ),
    (
        "missing_file",
        r"No adapter found for|Cannot find any model weights"
        r"|Couldn't instantiate the backend tokenizer|No such file or directory: '"
        r"|Repo id must be in the form|does not appear to have a file named",
        "a file of the model or the adapter is missing",
    ),
    (
        "killed",
        r"Worker proc \S+ died unexpectedly|EngineDeadError",
        "one of its processes was killed from outside, as the kernel does when memory runs out",
    ),
]

# The beginning of vLLM's log lines: "(EngineCore pid=16181) ERROR 11-21 22:44:45 [core.py:1510] ".
_PREFIX = r"^(?:\(\S+ pid=\d+\) )?(?:(?P<level>[A-Z]+) \d\d-\d\d \S+ \[\S+\] )?"
_LINE = re.compile(_PREFIX + r"(?P<message>.*)$")
_BAD = frozenset({"ERROR", "CRITICAL", "FATAL"})
_THROWN = r"(?:\w+\.)*\w*(?:Error|Exception)\b.*|\w+\.py: error: .+"
_EXCEPTION = re.compile(_PREFIX + rf"(?P<message>{_THROWN})$", re.MULTILINE)
# Frames of tracebacks, and messages of every exit: its web server shutting down, leaks.
_CHATTER = re.compile(
    r"^(?: {4}| {2}File |Traceback |During handling of|The above exception was|\s*$)"
    r"|launcher\.py:\d+\] Route: |nanobind|^ - (?:leaked|\.\.\. skipped)|resource_tracker"
    r"|warnings\.warn|^INFO: {4}|\[shutdown\]|errors\.pydantic\.dev|\d+% Completed \||\d+%\|"
)


def explain(log: str, exit_code: int) -> Cause:
    """The cause of a server's death. `exit_code`: a shell's, over 128 for a signal."""
    for kind, pattern, sentence in _CAUSES:
        if re.search(pattern, log):
            return Cause(kind, sentence)
    if exceptions := list(_EXCEPTION.finditer(log)):
        return Cause("other", exceptions[-1]["message"][:LINE_LENGTH])
    if (number := abs(exit_code) % 128) in set(signal.Signals) and not 0 <= exit_code <= 128:
        return Cause("killed", f"{signal.Signals(number).name} ended it, from outside")
    return Cause("other", f"it ended with exit code {exit_code}")


def telling_lines(log: str) -> str:
    """A log's errors and exceptions with the lines that belong to them, in order, each once.

    Leaves out the frames of tracebacks. Without an error: the lines printed after the last log
    line.
    """
    errors: list[str] = []
    printed: list[str] = []
    goes_on = False
    for line in log.splitlines():
        is_logged, level, message = _parsed(line)
        is_error = level in _BAD or (level is None and re.match(_THROWN, message) is not None)
        goes_on = is_error or (goes_on and not is_logged and bool(line.strip()))
        if is_logged:
            printed.clear()
        if _is_chatter(line, message):
            continue
        if goes_on:
            errors.append(message[:LINE_LENGTH].rstrip())
        elif not is_logged:
            printed.append(message[:LINE_LENGTH].rstrip())
    return "\n".join(list(dict.fromkeys(errors))[:MOST_LINES] or printed[-LAST_WORDS:])


def last_words(log: str) -> str:
    """The last messages of a server that hangs."""
    messages = [
        message[:LINE_LENGTH].rstrip()
        for line in log.splitlines()
        for _, _, message in [_parsed(line)]
        if not _is_chatter(line, message)
    ]
    return "\n".join(messages[-LAST_WORDS:])


def _parsed(line: str) -> tuple[bool, str | None, str]:
    """Whether a line comes from a logger, its level, and its message."""
    parts = _LINE.match(line)
    assert parts is not None  # everything matches
    return parts.start("message") > 0, parts["level"], parts["message"]


def _is_chatter(line: str, message: str) -> bool:
    return _CHATTER.search(message) is not None or _CHATTER.search(line) is not None
