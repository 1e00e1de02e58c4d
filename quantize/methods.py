"""The ways to make a checkpoint smaller: round to nearest in the compressed-tensors format, and bitsandbytes NF4."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from foundation.errors import BadInput
from foundation.model import ModelRef
from foundation.progress import Progress
from foundation.quiet import quiet_libraries
from quantize.checkpoint import copy_companions, make_room, write_recipe
from quantize.config import QuantizeConfig

# Names of compressed-tensors' preset schemes. All are symmetric; weights per output channel (W4A16: per group of inputs),
# activations per token as they come.
_PRESETS = {"w8a8-int8": "W8A8", "w4a16": "W4A16", "fp8-dynamic": "FP8_DYNAMIC"}

GROUP_SIZES = (128, 64, 32)


def quantize(source: ModelRef, config: QuantizeConfig, out: Path, progress: Progress) -> ModelRef:
    """Write `source` quantized to `out`, with `recipe.json`.

    Raises BadInput where the source is quantized already, a group size doesn't divide the model's widths, or the disk is full.
    """
    if "quantization_config" in source.config():
        raise BadInput(f"{source.id}: already quantized; quantize the full-precision model, once")
    make_room(out, source.size_bytes())
    quiet_libraries()
    started = time.perf_counter()
    if config.method == "bnb-nf4":
        how = _write_nf4(source, config, out, progress)
        packages = ["bitsandbytes"]
    else:
        how = _write_compressed(source, config, out, progress)
        packages = ["compressed-tensors"]
    copy_companions(source.path, out)
    seconds = round(time.perf_counter() - started, 3)
    write_recipe(out, source, packages, method=config.method, **how, ignored=list(config.ignore), seconds=seconds)
    return ModelRef(id=f"{source.id}+{config.method}", revision=source.revision, path=out)


def choose_group_size(widths: set[int], asked: int | None) -> int:
    """The largest usual size that divides every input width: 64 for 576. Raises BadInput where the asked one, or none, does."""
    fitting = [size for size in GROUP_SIZES if all(width % size == 0 for width in widths)]
    listed = ", ".join(map(str, sorted(widths)))
    if asked is not None:
        if asked < 1 or any(width % asked for width in widths):
            write = f"; write {' or '.join(map(str, fitting))}" if fitting else ""
            raise BadInput(f"quantize.group_size: {asked} does not divide the model's input widths ({listed}){write}")
        return asked
    if not fitting:
        raise BadInput(f"quantize.method: w4a16 needs input widths that {GROUP_SIZES[-1]} divides; this model's are {listed}")
    return fitting[0]


def _write_compressed(source: ModelRef, config: QuantizeConfig, out: Path, progress: Progress) -> dict[str, Any]:
    import torch
    from compressed_tensors.compressors import ModelCompressor, compress_module
    from compressed_tensors.quantization import (
        QuantizationConfig,
        QuantizationStatus,
        apply_quantization_config,
        preset_name_to_scheme,
    )
    from compressed_tensors.quantization.utils import is_module_quantized

    model = _load(source, dtype="auto")
    scheme = preset_name_to_scheme(_PRESETS[config.method], targets=["Linear"])
    how: dict[str, Any] = {"rounding": "nearest", "format": "compressed-tensors"}
    if config.method == "w4a16":
        how["group_size"] = scheme.weights.group_size = choose_group_size(_input_widths(model, config.ignore), config.group_size)
    apply_quantization_config(model, QuantizationConfig(config_groups={"group_0": scheme}, ignore=list(config.ignore)))
    compressor = ModelCompressor.from_pretrained_model(model)
    modules = [module for module in model.modules() if is_module_quantized(module)]
    progress.stage(f"quantize {config.method}", len(modules), "layer")
    with torch.no_grad():
        for module in modules:
            _set_scales(module)
            compress_module(module)
            progress.advance(1)
    compressor.quantization_config.quantization_status = QuantizationStatus.COMPRESSED
    model.save_pretrained(out)
    compressor.update_config(str(out))
    return how


def _set_scales(module: Any) -> None:
    """The smallest scale at which the largest weight of each channel or group still fits."""
    from compressed_tensors.quantization.utils import calculate_qparams

    arguments = module.quantization_scheme.weights
    weight = module.weight
    grouped = weight.view(weight.size(0), -1, arguments.group_size or weight.size(1))
    scale, zero_point = calculate_qparams(grouped.amin(dim=-1), grouped.amax(dim=-1), arguments)
    module.weight_scale.copy_(scale)
    module.weight_zero_point.copy_(zero_point)


def _input_widths(model: Any, ignore: tuple[str, ...]) -> set[int]:
    import torch
    from compressed_tensors.utils import match_named_modules

    return {m.in_features for _, m in match_named_modules(model, ["Linear"], list(ignore)) if isinstance(m, torch.nn.Linear)}


def _write_nf4(source: ModelRef, config: QuantizeConfig, out: Path, progress: Progress) -> dict[str, Any]:
    """Saved before any forward pass: on some processors the first one repacks the weights for good."""
    progress.stage(f"quantize {config.method}", None, "layer")
    import torch
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=list(config.ignore),
    )
    _load(source, dtype="auto", quantization_config=settings, device_map={"": "cpu"}).save_pretrained(out)
    return {"format": "bitsandbytes", "block_size": 64}


def _load(source: ModelRef, **options: Any) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(source.path, use_safetensors=True, **options).eval()
