"""Where a quantized checkpoint can be served."""

from __future__ import annotations

from quantize.config import Method

_NOT_ON_CPU: dict[Method, str] = {
    "fp8-dynamic": "vLLM's CPU backend loads FP8 weights but has no fast kernel for them; serve it on CUDA (SM89 or newer)",
}


def why_not_on_cpu(method: Method) -> str | None:
    """None where vLLM's CPU backend serves the method's checkpoints, else the reason in one line."""
    return _NOT_ON_CPU.get(method)
