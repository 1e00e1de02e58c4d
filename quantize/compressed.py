"""Round to nearest, in the compressed-tensors format: no data is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foundation.model import ModelRef
from foundation.progress import Progress
from quantize.config import Method
from quantize.layers import FUSED

# Names of compressed-tensors' preset schemes. All are symmetric; weights per output channel (W4A16, NVFP4A16: per group of
# inputs), activations per token as they come. NVFP4A16 rounds the weights alone: rounding activations too takes calibration.
PRESETS: dict[Method, str] = {"w8a8-int8": "W8A8", "w4a16": "W4A16", "fp8-dynamic": "FP8_DYNAMIC", "nvfp4": "NVFP4A16"}


def write_rounded(
    source: ModelRef, method: Method, group_size: int | None, kept: Sequence[str], out: Path, progress: Progress
) -> dict[str, Any]:
    """Write the checkpoint; what the recipe has to tell of it."""
    import torch
    from compressed_tensors.compressors import ModelCompressor, compress_module
    from compressed_tensors.quantization import (
        QuantizationConfig,
        QuantizationStatus,
        apply_quantization_config,
        preset_name_to_scheme,
    )
    from compressed_tensors.quantization.utils import is_module_quantized
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(source.path, dtype="auto", use_safetensors=True).eval()
    scheme = preset_name_to_scheme(PRESETS[method], targets=["Linear"])
    if method == "w4a16":
        scheme.weights.group_size = group_size
    apply_quantization_config(model, QuantizationConfig(config_groups={"group_0": scheme}, ignore=list(kept)))
    compressor = ModelCompressor.from_pretrained_model(model)
    modules = {name: module for name, module in model.named_modules() if is_module_quantized(module)}
    progress.stage(f"quantize {method}", len(modules), "layer")
    with torch.no_grad():
        if method == "nvfp4":
            _set_global_scales(modules)
        for module in modules.values():
            _set_scales(module)
            compress_module(module)
            progress.advance(1)
    compressor.quantization_config.quantization_status = QuantizationStatus.COMPRESSED
    model.save_pretrained(out)
    compressor.update_config(str(out))
    told: dict[str, Any] = {"format": "compressed-tensors"}
    return told | ({"group_size": group_size} if group_size else {})


def _set_scales(module: Any) -> None:
    """The smallest scale at which the largest weight of each channel or group still fits."""
    from compressed_tensors.quantization.utils import calculate_qparams

    arguments = module.quantization_scheme.weights
    weight = module.weight
    grouped = weight.view(weight.size(0), -1, arguments.group_size or weight.size(1))
    whole = getattr(module, "weight_global_scale", None)
    scale, zero_point = calculate_qparams(grouped.amin(dim=-1), grouped.amax(dim=-1), arguments, global_scale=whole)
    module.weight_scale.copy_(scale)
    module.weight_zero_point.copy_(zero_point)


def _set_global_scales(modules: dict[str, Any]) -> None:
    """One scale a matrix brings the groups' scales into FP8's range; what vLLM multiplies as one matrix shares it."""
    import torch
    from compressed_tensors.quantization.utils import generate_gparam

    for name, module in modules.items():
        parent, _, last = name.rpartition(".")
        together = next((group for group in FUSED.values() if last in group), (last,))
        weights = [modules[full].weight for part in together if (full := f"{parent}.{part}" if parent else part) in modules]
        least, most = (torch.stack([end(weight) for weight in weights]) for end in (torch.amin, torch.amax))
        module.weight_global_scale.copy_(generate_gparam(least.amin().float(), most.amax().float()))
