"""Where a quantized checkpoint can be served, as vLLM's documentation and kernels have it."""

from __future__ import annotations

from quantize.config import Method

_NOT_ON_CPU: dict[Method, str] = {
    "fp8-dynamic": "vLLM's CPU backend loads FP8 weights but has no fast kernel for them; serve it on CUDA (8.9 or newer)",
    "nvfp4": "vLLM's CPU backend has no kernel for NVFP4; serve it on CUDA (7.5 or newer)",
}
# Compute capabilities: the first that a kernel is for, and where one ends the first that it is not for.
_ON_CUDA: dict[Method, tuple[float, float | None]] = {
    "w8a8-int8": (7.5, 10.0),
    "w4a16": (7.5, None),
    "fp8-dynamic": (8.9, None),
    "nvfp4": (7.5, None),
    "bnb-nf4": (7.0, None),
    "bnb-int8": (7.5, None),
}


def why_not_on_cpu(method: Method) -> str | None:
    """None where vLLM's CPU backend serves the method's checkpoints, else the reason in one line."""
    return _NOT_ON_CPU.get(method)


def why_not_on_cuda(method: Method, capability: float) -> str | None:
    """The same for an NVIDIA GPU of this compute capability."""
    first, end = _ON_CUDA[method]
    if capability < first:
        return f"vLLM serves it from compute capability {first} on, and this GPU has {capability}"
    if end is not None and capability >= end:
        return f"vLLM has no INT8 kernels from compute capability {end} on; write fp8-dynamic instead"
    return None
