"""Rounds a weight to nearest: the tensors that stand for it in a compressed-tensors checkpoint.

The format and its arithmetic are those of compressed-tensors 0.17, bit by bit
(tests/quantize/test_compressed.py). The library itself is not used: importing it takes seconds,
rounding 135 M weights a fraction of one, and its NVFP4 compiles C++ first.

A scale is the largest weight of a channel or group over half the width of the grid: 127.5 for INT8,
whose steps are -128 to 127. Weights and scales are computed in the weight's own dtype.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

INT8, INT4, FP8, FP4 = 127.5, 7.5, 448.0, 6.0
"""Half the width of each grid; of E4M3 and E2M1 also the largest value."""

_FP4_ABOVE, _FP4_FROM = (0.25, 1.25, 2.5, 5.0), (0.75, 1.75, 3.5)
"""Where the next of E2M1's magnitudes (0, 0.5, 1, 1.5, 2, 3, 4, 6) begins: halfway between two.

Halfway itself goes to the even one, above `_FP4_ABOVE` and from `_FP4_FROM` on.
"""


def int8(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """Signed bytes, one scale a row."""
    import torch

    scale = _scale(weight, INT8)
    return {
        "weight": (weight / scale).clamp(-128, 127).round().to(torch.int8),
        "weight_scale": scale,
    }


def fp8(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """E4M3, one scale a row."""
    import torch

    scale = _scale(weight, FP8)
    return {
        "weight": (weight / scale).clamp(-FP8, FP8).to(torch.float8_e4m3fn),
        "weight_scale": scale,
    }


def int4(weight: torch.Tensor, group_size: int) -> dict[str, torch.Tensor]:
    """One scale a group of inputs; eight values in 32 bits, the lowest first, each with 8 added."""
    import torch

    grouped = weight.unflatten(1, (-1, group_size))
    scale = _scale(grouped, INT4)
    values = (grouped / scale).clamp(-8, 7).round().flatten(1).to(torch.int32) + 8
    words = torch.nn.functional.pad(values, (0, -values.size(1) % 8)).unflatten(1, (-1, 8))
    packed = (words << torch.arange(0, 32, 4, dtype=torch.int32)).sum(dim=2, dtype=torch.int32)
    return {
        "weight_packed": packed,
        "weight_scale": scale[..., 0],
        "weight_shape": torch.tensor(weight.shape),
    }


def fp4(
    weight: torch.Tensor, group_size: int, global_scale: torch.Tensor
) -> dict[str, torch.Tensor]:
    """NVFP4: one FP8 scale a group of inputs, in units of one over `global_scale`.

    Two values share a byte, the lower first.
    """
    import torch

    grouped = weight.unflatten(1, (-1, group_size))
    scale = (
        (global_scale * (grouped.abs().amax(dim=-1) / FP4)).clamp(-FP8, FP8).to(torch.float8_e4m3fn)
    )
    scale = torch.where(scale.float() == 0, 0.125, scale.float())
    values = (grouped / (scale / global_scale)[..., None]).flatten(1)
    size = values.abs()
    index = sum(size > limit for limit in _FP4_ABOVE) + sum(size >= limit for limit in _FP4_FROM)
    bits = (index + 8 * (values < 0)).to(torch.uint8)
    return {
        "weight_packed": bits[:, ::2] | (bits[:, 1::2] << 4),
        "weight_scale": scale.to(torch.float8_e4m3fn),
        "weight_global_scale": global_scale,
    }


def fp4_global_scale(weights: list[torch.Tensor]) -> torch.Tensor:
    """The factor, float32 (1,), that brings the scales of one matrix's weights into FP8's range."""
    import torch

    largest = torch.stack([weight.abs().amax() for weight in weights]).amax().float()
    scale = FP8 * FP4 / largest
    return torch.where(scale.isfinite(), scale, 1.0).reshape(1)


def _scale(weight: torch.Tensor, half: float) -> torch.Tensor:
    """The scale along the last dimension, which keeps length 1.

    Where every weight is zero, any scale but zero will do: the dtype's step at 1.
    """
    import torch

    scale = weight.abs().amax(dim=-1, keepdim=True) / half
    return torch.where(scale == 0, torch.finfo(scale.dtype).eps, scale)
