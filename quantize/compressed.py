"""Round to nearest, in the compressed-tensors format: no data is needed, and one weight at a time is in memory."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation.errors import BadInput
from foundation.model import ModelRef
from foundation.progress import Progress
from quantize.config import Method
from quantize.layers import FUSED, linear_inputs
from quantize.shards import ShardWriter, tensors_of

if TYPE_CHECKING:
    import torch

# Names of compressed-tensors' preset schemes. All are symmetric; weights per output channel (W4A16, NVFP4A16: per group of
# inputs), activations per token as they come. NVFP4A16 rounds the weights alone: rounding activations too takes calibration.
PRESETS: dict[Method, str] = {"w8a8-int8": "W8A8", "w4a16": "W4A16", "fp8-dynamic": "FP8_DYNAMIC", "nvfp4": "NVFP4A16"}


def write_rounded(
    source: ModelRef, method: Method, group_size: int | None, kept: Sequence[str], out: Path, progress: Progress
) -> dict[str, Any]:
    """Write the checkpoint; what the recipe has to tell of it.

    Raises BadInput for a checkpoint whose matrices are not the linear layers that transformers builds from its config.
    """
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import (
        QuantizationConfig,
        QuantizationStatus,
        apply_quantization_config,
        preset_name_to_scheme,
    )
    from compressed_tensors.quantization.utils import is_module_quantized

    model = _without_weights(source)
    scheme = preset_name_to_scheme(PRESETS[method], targets=["Linear"])
    if method == "w4a16":
        scheme.weights.group_size = group_size
    apply_quantization_config(model, QuantizationConfig(config_groups={"group_0": scheme}, ignore=list(kept)))
    description = ModelCompressor.from_pretrained_model(model)
    layers = {f"{name}.weight": module for name, module in model.named_modules() if is_module_quantized(module)}
    _check_matrices(source, model, layers, kept)

    progress.stage(f"quantize {method}", len(layers), "layer")
    global_scales = _global_scales(source, layers) if method == "nvfp4" else {}
    written = ShardWriter(out)
    for name, tensor in tensors_of(source):
        if name not in layers:
            written.add(name, tensor)
            continue
        weight = tensor.to(layers[name].weight.dtype)
        for part, rounded in _rounded(weight, layers[name].quantization_scheme, global_scales.get(name)).items():
            written.add(f"{name.removesuffix('weight')}{part}", rounded)
        progress.advance(1)
    written.close()
    shutil.copyfile(source.path / "config.json", out / "config.json")
    description.quantization_config.quantization_status = QuantizationStatus.COMPRESSED
    description.update_config(str(out))
    told: dict[str, Any] = {"format": "compressed-tensors"}
    return told | ({"group_size": group_size} if group_size else {})


def _without_weights(source: ModelRef) -> Any:
    """The model as transformers builds it: the names and shapes of its modules."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source.path))


def _check_matrices(source: ModelRef, model: Any, layers: Mapping[str, Any], kept: Collection[str]) -> None:
    """Every layer that is to be quantized has its weight in the files, and no other matrix there is left out unasked.

    The second would be served wrongly: vLLM takes the experts of a mixture and the Conv1D of GPT-2 for quantized as well.
    """
    import torch

    shapes, called = source.shapes(), type(model).__name__
    for name, layer in layers.items():
        if shapes.get(name) != tuple(layer.weight.shape):
            raise BadInput(
                f"{source.id}: its weight files have no {name} of shape {tuple(layer.weight.shape)}, and {called} of "
                "transformers does; load it with transformers and save it again"
            )
    known = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, torch.nn.Embedding)} | layers.keys()
    if left := [name for name in linear_inputs(source) if name not in kept and f"{name}.weight" not in known]:
        raise BadInput(
            f"quantize.keep: {left[0]} of {source.id} is no linear layer in {called} of transformers, and can't be quantized "
            "here; add it"
        )


def _rounded(weight: torch.Tensor, scheme: Any, global_scale: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """What stands in the weight's place: at the smallest scale at which the largest of each channel or group still fits."""
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization.utils import calculate_qparams

    grouped = weight.view(weight.size(0), -1, scheme.weights.group_size or weight.size(1))
    scale, zero_point = calculate_qparams(grouped.amin(dim=-1), grouped.amax(dim=-1), scheme.weights, global_scale)
    known = {"weight": weight, "weight_scale": scale.to(weight.dtype), "weight_zero_point": zero_point}
    if global_scale is not None:
        known["weight_global_scale"] = global_scale
    parts: dict[str, torch.Tensor] = BaseCompressor.get_value_from_registry(scheme.format.value).compress(known, scheme)
    return parts


def _global_scales(source: ModelRef, layers: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """One scale a matrix brings the groups' scales into FP8's range; what vLLM multiplies as one matrix shares it."""
    import torch
    from compressed_tensors.quantization.utils import generate_gparam

    ends = {name: torch.stack(weight.aminmax()).float() for name, weight in tensors_of(source) if name in layers}
    scales = {}
    for name in layers:
        parent, _, last = name.removesuffix(".weight").rpartition(".")
        together = next((group for group in FUSED.values() if last in group), (last,))
        least, most = torch.stack([ends[full] for part in together if (full := f"{parent}.{part}.weight") in ends]).unbind(dim=1)
        scales[name] = generate_gparam(least.amin(), most.amax())
    return scales
