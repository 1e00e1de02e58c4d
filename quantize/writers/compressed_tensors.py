"""Round to nearest, in the compressed-tensors format: no data is needed, and one weight at a time is in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation.files.atomic_write import write_whole
from foundation.models.model import ModelRef
from foundation.progress import Progress
from quantize.config import Method
from quantize.layers import FUSED, quantized_layers
from quantize.writers import rounding
from quantize.writers.shards import ShardWriter, tensors_of

if TYPE_CHECKING:
    import torch

# Names of compressed-tensors' preset schemes. All are symmetric; weights per output channel (W4A16, NVFP4A16: per group of
# inputs), activations per token as they come. NVFP4A16 rounds the weights alone: rounding activations too takes calibration.
PRESETS: dict[Method, str] = {
    "w8a8-int8": "W8A8",
    "w4a16": "W4A16",
    "fp8-dynamic": "FP8_DYNAMIC",
    "nvfp4": "NVFP4A16",
}


def write_rounded(
    source: ModelRef,
    method: Method,
    group_size: int | None,
    kept: Sequence[str],
    out: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Write the checkpoint; what the recipe has to tell of it. Raises BadInput as `quantized_layers` does."""
    layers = quantized_layers(source, kept)
    config = source.config()
    dtype = config.get("dtype") or config.get("torch_dtype")
    global_scales = _global_scales(source, layers, dtype) if method == "nvfp4" else {}
    progress.stage(f"quantize {method}", len(layers), "layer")
    written = ShardWriter(out)
    for name, tensor in tensors_of(source):
        layer = name.removesuffix(".weight")
        if layer not in layers or name == layer:
            written.add(name, tensor)
            continue
        round_ = _rounding(method, group_size, global_scales.get(layer))
        for part, rounded in round_(_as_served(tensor, dtype)).items():
            written.add(f"{layer}.{part}", rounded)
        progress.advance(1)
    written.close()
    config["quantization_config"] = description(method, group_size, kept)
    write_whole(out / "config.json", json.dumps(config, indent=2) + "\n")
    told: dict[str, Any] = {"format": "compressed-tensors"}
    return told | ({"group_size": group_size} if group_size else {})


def description(method: Method, group_size: int | None, kept: Sequence[str]) -> dict[str, Any]:
    """The key `quantization_config` of `config.json`, whole, as compressed-tensors writes it."""
    number = {
        "w8a8-int8": {"num_bits": 8, "type": "int", "strategy": "channel"},
        "w4a16": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": group_size},
        "fp8-dynamic": {"num_bits": 8, "type": "float", "strategy": "channel"},
        "nvfp4": {
            "num_bits": 4,
            "type": "float",
            "strategy": "tensor_group",
            "group_size": group_size,
        }
        | {"scale_dtype": "torch.float8_e4m3fn"},
    }[method]
    packed = {"w8a8-int8": "int", "w4a16": "pack", "fp8-dynamic": "float", "nvfp4": "nvfp4-pack"}[
        method
    ] + "-quantized"
    rest = {
        "actorder": None,
        "block_structure": None,
        "group_size": None,
        "observer_kwargs": {},
        "scale_dtype": None,
    }
    rest |= {"symmetric": True, "zp_dtype": None}
    weights = rest | {"dynamic": False, "observer": "memoryless_minmax"} | number
    activations = rest | {"dynamic": True, "observer": None} | number | {"strategy": "token"}
    group = {
        "format": packed,
        "input_activations": activations if number["num_bits"] == 8 else None,
        "output_activations": None,
        "targets": ["Linear"],
        "weights": weights,
    }
    return {
        "config_groups": {"group_0": group},
        "format": packed,
        "global_compression_ratio": None,
        "ignore": list(kept),
        "kv_cache_scheme": None,
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "sparsity_config": {},
        "transform_config": {},
        "version": version("compressed-tensors"),
    }


def _rounding(
    method: Method, group_size: int | None, global_scale: torch.Tensor | None
) -> Callable[[torch.Tensor], dict[str, torch.Tensor]]:
    if method == "w4a16":
        return partial(rounding.int4, group_size=group_size)
    if method == "nvfp4":
        return partial(rounding.fp4, global_scale=global_scale)
    return rounding.int8 if method == "w8a8-int8" else rounding.fp8


def _as_served(weight: torch.Tensor, dtype: object) -> torch.Tensor:
    """In the dtype that `config.json` names: the one the unquantized model is loaded in, whatever its files hold."""
    import torch

    return weight.to(getattr(torch, dtype)) if isinstance(dtype, str) else weight


def _global_scales(
    source: ModelRef, layers: Collection[str], dtype: object
) -> dict[str, torch.Tensor]:
    """By layer; what vLLM multiplies as one matrix shares one."""
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
