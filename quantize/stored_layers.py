"""Reads quantized layers: the numbers they stand for, and the error that rounding may leave.

Written after the formats' definitions, apart from what writes them: compressed-tensors (int, pack,
float and nvfp4-pack), and bitsandbytes' NF4 (T. Dettmers et al., QLoRA, 2023, appendix E) and
LLM.int8().
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from foundation.models.tensors import Tensors

if TYPE_CHECKING:
    import torch

_FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
NF4_STATE = "weight.quant_state.bitsandbytes__nf4"

GROUP_OF_INPUT = "weight_g_idx"
EXTRAS = (GROUP_OF_INPUT, "weight_zero_point", "weight_format")
"""Tensors that some versions add. Only the group of each input changes what a layer stands for."""

LayerTensors: TypeAlias = Mapping[str, "torch.Tensor"]
"""The tensors of one layer, by their names behind the layer's."""


@dataclass(frozen=True)
class StoredLayer:
    """What a layer's tensors stand for, and what rounding may be off by; float32, (out, in)."""

    value: torch.Tensor
    allowed: torch.Tensor


def tensors_of_layer(tensors: Tensors, layer: str, parts: tuple[str, ...]) -> LayerTensors:
    """The named tensors of a layer, and the group of each input where it is stored.

    Raises KeyError for a missing tensor.
    """
    present = {part: tensors[f"{layer}.{part}"] for part in parts}
    order = tensors.get(f"{layer}.{GROUP_OF_INPUT}")
    return present if order is None else present | {GROUP_OF_INPUT: order}


def int8(parts: LayerTensors) -> StoredLayer:
    """Signed bytes, one scale a row."""
    scale = parts["weight_scale"]
    # Half a step; at the upper end 127.5 becomes 127. The quotient is rounded to the scale's dtype.
    return _steps(parts["weight"].float(), scale.float(), 128 * _unit(scale))


def int4(parts: LayerTensors) -> StoredLayer:
    """Eight values in 32 bits, one scale a group of inputs."""
    import torch

    rows, inputs = parts["weight_shape"].tolist()
    shifts = torch.arange(0, 32, 4, dtype=torch.int32)
    values = ((parts["weight_packed"][:, :, None] >> shifts) & 15).flatten(1)[:rows, :inputs] - 8
    scale = parts["weight_scale"]
    group_of = parts.get(GROUP_OF_INPUT)
    if group_of is None:
        group_of = torch.arange(inputs) // (inputs // scale.size(1))
    return _steps(values.float(), scale.float()[:, group_of.long()], 8 * _unit(scale))


def _steps(steps: torch.Tensor, scale: torch.Tensor, of_quotient: float) -> StoredLayer:
    return StoredLayer(steps * scale, (0.51 + of_quotient) * scale.abs().expand_as(steps))


def fp8(parts: LayerTensors) -> StoredLayer:
    """E4M3: three bits of mantissa, and steps of 2^-9 below 2^-6; one scale a row."""
    scale = parts["weight_scale"].float()
    value = parts["weight"].float() * scale
    relative = value.abs() * (2**-4 + 2 * _unit(parts["weight_scale"]))
    return StoredLayer(value, 1.02 * relative + 1.02 * 2**-10 * scale)


def fp4(parts: LayerTensors) -> StoredLayer:
    """E2M1: steps of 0.5 up to 2, of 1 up to 4, then 6.

    A group's largest weight may lie above 6, by the rounding of the group's scale.
    """
    import torch

    packed = parts["weight_packed"]
    bits = torch.stack([packed & 15, packed >> 4], dim=-1).flatten(1)
    size = torch.tensor(_FP4)[(bits & 7).long()]
    scale = parts["weight_scale"].float() / parts["weight_global_scale"].float()
    scale = scale.repeat_interleave(bits.size(1) // scale.size(1), dim=1)
    value = torch.where(bits > 7, -size, size) * scale
    return StoredLayer(value, 1.02 * (size / 4).clamp(min=0.27) * scale)


def nf4(parts: LayerTensors) -> StoredLayer:
    """Sixteen quantiles of a normal distribution, two codes a byte, one scale a block."""
    import torch

    state = json.loads(bytes(parts[NF4_STATE].tolist()))
    packed = parts["weight"].flatten()
    codes = torch.stack([packed >> 4, packed & 15], dim=-1).flatten().long()
    table = torch.tensor(_NF4)
    gaps = table.diff() / 2
    # From a code to halfway to the neighbour that is further away.
    reach = torch.maximum(torch.cat([gaps[:1], gaps]), torch.cat([gaps, gaps[-1:]]))
    largest = parts["weight.absmax"].float().repeat_interleave(state["blocksize"])[: codes.numel()]
    shape = tuple(state["shape"])
    value, allowed = table[codes] * largest, (1.02 * reach[codes] + 1e-3) * largest
    return StoredLayer(value.reshape(shape), allowed.reshape(shape))


def llm_int8(parts: LayerTensors) -> StoredLayer:
    """Signed bytes, one scale a row; bitsandbytes rounds a half-precision copy of the weight."""
    return _steps(parts["weight"].float(), parts["SCB"].float()[:, None] / 127, 127 * 2**-10)


def _unit(tensor: torch.Tensor) -> float:
    """Half the distance from 1 to the next number of the tensor's dtype."""
    import torch

    return float(torch.finfo(tensor.dtype).eps) / 2
