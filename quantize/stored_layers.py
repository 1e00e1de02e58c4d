"""Reads quantized layers back, format by format: the numbers they stand for, and how far rounding may have moved each.

Written after the formats' definitions, apart from what writes them: compressed-tensors (int, pack, float and nvfp4-pack), and
bitsandbytes' NF4 (T. Dettmers et al., QLoRA, 2023, appendix E) and LLM.int8().
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundation.models.tensors import Tensors
from quantize.config import Method

if TYPE_CHECKING:
    import torch

_FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
_NF4_STATE = "weight.quant_state.bitsandbytes__nf4"

PARTS: dict[Method, tuple[str, ...]] = {
    "w8a8-int8": ("weight", "weight_scale"),
    "w4a16": ("weight_packed", "weight_scale", "weight_shape"),
    "fp8-dynamic": ("weight", "weight_scale"),
    "nvfp4": ("weight_packed", "weight_scale", "weight_global_scale"),
    "bnb-nf4": ("weight", "weight.absmax", "weight.quant_map", _NF4_STATE),
    "bnb-int8": ("weight", "SCB"),
}
"""The tensors of a layer, by their names behind the layer's."""

EXTRAS = ("weight_g_idx", "weight_zero_point", "weight_format")
"""What some versions add; the formats here need none of it, but for the order of the groups."""


@dataclass(frozen=True)
class StoredLayer:
    """(out, in), float32: the numbers a layer's tensors stand for, and what rounding to nearest may be off by at each."""

    value: torch.Tensor
    allowed: torch.Tensor


def read_layer(tensors: Tensors, layer: str, method: Method) -> StoredLayer:
    """Raises KeyError where a tensor of the format is not there."""
    parts = {part: tensors[f"{layer}.{part}"] for part in PARTS[method]}
    if method == "w4a16":
        return _int4(parts, tensors.get(f"{layer}.weight_g_idx"))
    return {
        "w8a8-int8": _int8,
        "fp8-dynamic": _fp8,
        "nvfp4": _fp4,
        "bnb-nf4": _nf4,
        "bnb-int8": _llm_int8,
    }[method](parts)


def _int8(parts: dict[str, torch.Tensor]) -> StoredLayer:
    scale = parts["weight_scale"]
    # Half a step, or at the upper end, where 127.5 becomes 127; and the quotient is rounded to the scale's own dtype.
    return _steps(parts["weight"].float(), scale.float(), 128 * _unit(scale))


def _int4(parts: dict[str, torch.Tensor], group_of: torch.Tensor | None) -> StoredLayer:
    import torch

    rows, inputs = parts["weight_shape"].tolist()
    shifts = torch.arange(0, 32, 4, dtype=torch.int32)
    values = ((parts["weight_packed"][:, :, None] >> shifts) & 15).flatten(1)[:rows, :inputs] - 8
    scale = parts["weight_scale"]
    if group_of is None:
        group_of = torch.arange(inputs) // (inputs // scale.size(1))
    return _steps(values.float(), scale.float()[:, group_of.long()], 8 * _unit(scale))


def _steps(steps: torch.Tensor, scale: torch.Tensor, of_quotient: float) -> StoredLayer:
    return StoredLayer(steps * scale, (0.51 + of_quotient) * scale.abs().expand_as(steps))


def _fp8(parts: dict[str, torch.Tensor]) -> StoredLayer:
    """E4M3: three bits of mantissa, and steps of 2^-9 below 2^-6."""
    scale = parts["weight_scale"].float()
    value = parts["weight"].float() * scale
    return StoredLayer(
        value,
        value.abs() * (2**-4 + 2 * _unit(parts["weight_scale"])) * 1.02 + 2**-10 * 1.02 * scale,
    )


def _fp4(parts: dict[str, torch.Tensor]) -> StoredLayer:
    """E2M1: steps of half of one up to 2, of one to 4, then 6; the group's largest may lie above 6 by its scale's rounding."""
    import torch

    packed = parts["weight_packed"]
    bits = torch.stack([packed & 15, packed >> 4], dim=-1).flatten(1)
    size = torch.tensor(_FP4)[(bits & 7).long()]
    scale = parts["weight_scale"].float() / parts["weight_global_scale"].float()
    scale = scale.repeat_interleave(bits.size(1) // scale.size(1), dim=1)
    return StoredLayer(
        torch.where(bits > 7, -size, size) * scale, 1.02 * (size / 4).clamp(min=0.27) * scale
    )


def _nf4(parts: dict[str, torch.Tensor]) -> StoredLayer:
    import torch

    state = json.loads(bytes(parts[_NF4_STATE].tolist()))
    packed = parts["weight"].flatten()
    codes = torch.stack([packed >> 4, packed & 15], dim=-1).flatten().long()
    table = torch.tensor(_NF4)
    gaps = table.diff() / 2
    # From a code to halfway to either neighbour, whichever is further.
    reach = torch.maximum(torch.cat([gaps[:1], gaps]), torch.cat([gaps, gaps[-1:]]))
    largest = parts["weight.absmax"].float().repeat_interleave(state["blocksize"])[: codes.numel()]
    shape = tuple(state["shape"])
    value, allowed = table[codes] * largest, (1.02 * reach[codes] + 1e-3) * largest
    return StoredLayer(value.reshape(shape), allowed.reshape(shape))


def _llm_int8(parts: dict[str, torch.Tensor]) -> StoredLayer:
    # bitsandbytes rounds a half-precision copy of the weight.
    return _steps(parts["weight"].float(), parts["SCB"].float()[:, None] / 127, 127 * 2**-10)


def _unit(tensor: torch.Tensor) -> float:
    """Half the distance from 1 to the next number of the tensor's dtype."""
    import torch

    return torch.finfo(tensor.dtype).eps / 2
