"""Writes compressed-tensors' format, rounded to nearest, one weight in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from foundation.files.atomic_write import write_whole
from foundation.models.model import ModelRef
from foundation.progress import Progress
from quantize.layers import FUSED, quantized_layers
from quantize.methods import CompressedTensors
from quantize.plan import QuantizationPlan
from quantize.writers import rounding
from quantize.writers.shards import ShardWriter, tensors_of

if TYPE_CHECKING:
    import torch


def write_rounded(
    plan: QuantizationPlan, scheme: CompressedTensors, out: Path, progress: Progress
) -> dict[str, object]:
    """Write the checkpoint, and return what the recipe says of it.

    Raises BadInput as `quantized_layers` does.
    """
    source = plan.source
    layers = quantized_layers(source, plan.kept)
    config = source.config()
    dtype = config.get("dtype") or config.get("torch_dtype")
    shared = scheme.strategy == "tensor_group"
    global_scales = _global_scales(source, layers, dtype) if shared else {}
    progress.stage(f"quantize {plan.config.method}", len(layers), "layer")
    shards = ShardWriter(out)
    for name, tensor in tensors_of(source):
        layer = name.removesuffix(".weight")
        if layer not in layers or name == layer:
            shards.add(name, tensor)
            continue
        weight = _as_served(tensor, dtype)
        for part, stored in _rounded(weight, plan, global_scales.get(layer)).items():
            shards.add(f"{layer}.{part}", stored)
        progress.advance(1)
    shards.close()
    config["quantization_config"] = _description(plan, scheme)
    write_whole(out / "config.json", json.dumps(config, indent=2) + "\n")
    return plan.recipe


def _description(plan: QuantizationPlan, scheme: CompressedTensors) -> dict[str, object]:
    """The key `quantization_config` of `config.json`, whole, as compressed-tensors writes it."""
    method = plan.method
    shared: dict[str, object] = {
        "actorder": None,
        "block_structure": None,
        "group_size": plan.group_size,
        "num_bits": method.bits,
        "observer_kwargs": {},
        "scale_dtype": scheme.scale_dtype,
        "symmetric": True,
        "type": method.number,
        "zp_dtype": None,
    }
    weights = {"dynamic": False, "observer": "memoryless_minmax", "strategy": scheme.strategy}
    # Methods of eight bits round the activations too, for each token when it comes.
    activations = {"dynamic": True, "observer": None, "strategy": "token"}
    group = {
        "format": scheme.layout,
        "input_activations": shared | activations if method.bits == 8 else None,
        "output_activations": None,
        "targets": ["Linear"],
        "weights": shared | weights,
    }
    return {
        "config_groups": {"group_0": group},
        "format": scheme.layout,
        "global_compression_ratio": None,
        "ignore": plan.kept,
        "kv_cache_scheme": None,
        "quant_method": method.format,
        "quantization_status": "compressed",
        "sparsity_config": {},
        "transform_config": {},
        "version": version(method.format),
    }


def _rounded(
    weight: torch.Tensor, plan: QuantizationPlan, global_scale: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    if plan.group_size is None:
        return rounding.int8(weight) if plan.method.number == "int" else rounding.fp8(weight)
    if global_scale is None:
        return rounding.int4(weight, plan.group_size)
    return rounding.fp4(weight, plan.group_size, global_scale)


def _as_served(weight: torch.Tensor, dtype: object) -> torch.Tensor:
    """The weight in the dtype that `config.json` names, which a server loads it in."""
    import torch

    return weight.to(getattr(torch, dtype)) if isinstance(dtype, str) else weight


def _global_scales(
    source: ModelRef, layers: Collection[str], dtype: object
) -> dict[str, torch.Tensor]:
    """NVFP4's global scale of each layer; layers that vLLM multiplies as one matrix share one."""
    import torch

    names = {f"{layer}.weight": layer for layer in layers}
    ends = {
        names[name]: torch.stack(_as_served(weight, dtype).aminmax())
        for name, weight in tensors_of(source)
        if name in names
    }
    scales = {}
    for layer in layers:
        parent, _, last = layer.rpartition(".")
        together = next((group for group in FUSED.values() if last in group), (last,))
        parts = [f"{parent}.{part}" if parent else part for part in together]
        scales[layer] = rounding.fp4_global_scale([ends[part] for part in parts if part in ends])
    return scales
