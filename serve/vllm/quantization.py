"""Where vLLM serves a quantized checkpoint: its kernels by number format, for CPUs and NVIDIA GPUs.

After vLLM 0.32's source: `_POSSIBLE_*_KERNELS` in `model_executor/kernels/linear` lists the kernels
of a platform, `get_min_capability` of each compressed-tensors scheme the first GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kernels:
    """What multiplies by weights of one number format.

    `why_not_on_cpu` is None where vLLM's CPU backend has a kernel. `first_capability` is the first
    CUDA compute capability with a kernel, `end_capability` the first without one again.
    """

    why_not_on_cpu: str | None
    first_capability: float
    end_capability: float | None = None
    adapters_on_cpu: bool = True


def _only_on_cuda(number_format: str, first_capability: float) -> Kernels:
    why = (
        f"vLLM's CPU backend has no kernel for {number_format}; "
        f"serve it on CUDA ({first_capability} or newer)"
    )
    return Kernels(why, first_capability)


def _fp8(first_capability: float) -> Kernels:
    why = (
        "vLLM's CPU backend loads FP8 weights but has no fast kernel for them; "
        f"serve it on CUDA ({first_capability} or newer)"
    )
    return Kernels(why, first_capability)


FORMATS: dict[str, Kernels] = {
    "w8a8-int8": Kernels(None, 7.5, end_capability=10.0, adapters_on_cpu=False),
    "w4a16": Kernels(None, 7.5),
    # Before 8.9 vLLM multiplies FP8 weights with 16-bit activations (Marlin).
    "fp8-dynamic": _fp8(7.5),
    "nvfp4": _only_on_cuda("NVFP4", 7.5),
    "bnb-nf4": Kernels(None, 7.0),
    "bnb-int8": Kernels(None, 7.5),
    # Formats that only other tools write.
    "w8a16": _only_on_cuda("W8A16 (8-bit integer weights, 16-bit activations)", 7.5),
    "wna16": _only_on_cuda("integer weights of other than 4 or 8 bits", 7.5),
    "w8a16-fp8": _only_on_cuda("FP8 weights with 16-bit activations", 7.5),
    "fbgemm-fp8": _fp8(8.0),
    "mxfp4": _only_on_cuda("MXFP4", 8.0),
    "mxfp8": _only_on_cuda("MXFP8", 7.5),
}
"""By number format: the methods of `quantize`, and formats of checkpoints from elsewhere."""

_QUANT_METHODS: dict[str, str] = {
    "fp8": "fp8-dynamic",
    "fbgemm-fp8": "fbgemm-fp8",
    "modelopt-fp4": "nvfp4",
}
_MX_GROUP = 32
"""Numbers that share a scale in the OCP's MX formats."""


def why_not_on_cpu(number_format: str) -> str | None:
    """Why vLLM's CPU backend does not serve a format, in one line; None where it does."""
    return FORMATS[number_format].why_not_on_cpu


def why_not_on_cuda(number_format: str, capability: float) -> str | None:
    """Why an NVIDIA GPU of a compute capability does not serve a format; None where it does."""
    first, end = FORMATS[number_format].first_capability, FORMATS[number_format].end_capability
    if capability < first:
        return f"vLLM serves it from compute capability {first} on, and this GPU has {capability}"
    if end is not None and capability >= end:
        return (
            f"vLLM has no INT8 kernels from compute capability {end} on; write fp8-dynamic instead"
        )
    return None


def stored_formats(quantization: Mapping[str, Any]) -> list[str]:
    """The known number formats of a checkpoint, by its `quantization_config`.

    A checkpoint of mixed precision has several.
    """
    quant_method = str(quantization.get("quant_method", "")).lower().replace("_", "-")
    formats: list[str | None]
    if quant_method == "bitsandbytes":
        formats = ["bnb-nf4" if quantization.get("load_in_4bit") else "bnb-int8"]
    elif quant_method == "compressed-tensors":
        groups = quantization.get("config_groups")
        members = groups.values() if isinstance(groups, dict) else ()
        formats = [_of_group(group) for group in members if isinstance(group, dict)]
    elif quant_method in ("gptq", "awq"):
        formats = [_of_integers(quantization.get("bits", quantization.get("w_bit")))]
    else:
        formats = [_QUANT_METHODS.get(quant_method)]
    return list(dict.fromkeys(each for each in formats if each is not None))


def _of_group(group: Mapping[str, Any]) -> str | None:
    """The number format of a group of compressed-tensors' layers."""
    weights = group.get("weights")
    if not isinstance(weights, dict):
        return None
    bits, rounds_activations = weights.get("num_bits"), bool(group.get("input_activations"))
    if weights.get("type") == "float":
        microscaled = weights.get("group_size") == _MX_GROUP
        if bits == 4:
            return "mxfp4" if microscaled else "nvfp4"
        if bits == 8 and not microscaled:
            return "fp8-dynamic" if rounds_activations else "w8a16-fp8"
        return "mxfp8" if bits == 8 else None
    if weights.get("type") != "int":
        return None
    if rounds_activations:
        return "w8a8-int8" if bits == 8 else None
    return _of_integers(bits)


def _of_integers(bits: object) -> str | None:
    """The number format of integer weights with 16-bit activations."""
    if not isinstance(bits, int):
        return None
    return {4: "w4a16", 8: "w8a16"}.get(bits, "wna16")
