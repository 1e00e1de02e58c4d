"""Where a quantized checkpoint can be served, as vLLM's documentation and kernels have it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NOT_ON_CPU: dict[str, str] = {
    "fp8-dynamic": "vLLM's CPU backend loads FP8 weights but has no fast kernel for them; serve it on CUDA (8.9 or newer)",
    "nvfp4": "vLLM's CPU backend has no kernel for NVFP4; serve it on CUDA (7.5 or newer)",
}
# Compute capabilities: the first that a kernel is for, and where one ends the first that it is not for.
_ON_CUDA: dict[str, tuple[float, float | None]] = {
    "w8a8-int8": (7.5, 10.0),
    "w4a16": (7.5, None),
    "fp8-dynamic": (8.9, None),
    "nvfp4": (7.5, None),
    "bnb-nf4": (7.0, None),
    "bnb-int8": (7.5, None),
}

_FORMATS: dict[str, str] = {
    "fp8": "fp8-dynamic",
    "fbgemm-fp8": "fp8-dynamic",
    "modelopt-fp4": "nvfp4",
}


def why_not_on_cpu(method: str) -> str | None:
    """None where vLLM's CPU backend serves the method's checkpoints, else the reason in one line."""
    return _NOT_ON_CPU.get(method)


def why_not_on_cuda(method: str, capability: float) -> str | None:
    """The same for an NVIDIA GPU of this compute capability."""
    first, end = _ON_CUDA[method]
    if capability < first:
        return f"vLLM serves it from compute capability {first} on, and this GPU has {capability}"
    if end is not None and capability >= end:
        return (
            f"vLLM has no INT8 kernels from compute capability {end} on; write fp8-dynamic instead"
        )
    return None


def stored_method(quantization: Mapping[str, Any]) -> str | None:
    """The `quantize` method of a quantized checkpoint, by its `quantization_config`; None for any other."""
    format_ = str(quantization.get("quant_method", "")).lower().replace("_", "-")
    if format_ == "bitsandbytes":
        return "bnb-nf4" if quantization.get("load_in_4bit") else "bnb-int8"
    if format_ == "compressed-tensors":
        groups = quantization.get("config_groups")
        first = next(iter(groups.values()), None) if isinstance(groups, dict) else None
        return _of_group(first) if isinstance(first, dict) else None
    if format_ in ("gptq", "awq"):
        return "w4a16" if quantization.get("bits") == 4 else None
    return _FORMATS.get(format_)


def _of_group(group: Mapping[str, Any]) -> str | None:
    weights = group.get("weights")
    if not isinstance(weights, dict):
        return None
    kind = weights.get("num_bits"), weights.get("type")
    if kind == (8, "int"):
        return "w8a8-int8" if group.get("input_activations") else None
    kinds: dict[object, str] = {
        (8, "float"): "fp8-dynamic",
        (4, "float"): "nvfp4",
        (4, "int"): "w4a16",
    }
    return kinds.get(kind)
