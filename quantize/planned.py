"""How large a quantized checkpoint will be, from the shapes of its source."""

from __future__ import annotations

from math import ceil, prod

from foundation.models.model import ModelRef
from quantize.config import QuantizeConfig
from quantize.layers import linear_inputs
from quantize.plan import plan_quantization

_LAYER_BYTES = 1024
"""The shape, the global scale, or bitsandbytes' table and its state."""


def planned_weights(source: ModelRef, config: QuantizeConfig) -> tuple[int, int]:
    """The number of weights that stay in full precision, and the most bytes that the others take.

    Raises BadInput as `plan_quantization` does.
    """
    plan = plan_quantization(source, config)
    method, kept = plan.method, set(plan.kept)
    quantized = {f"{name}.weight" for name in linear_inputs(source) if name not in kept}
    group = plan.group_size or method.block_size
    full_precision = rounded_bytes = 0
    for name, shape in source.shapes().items():
        if name not in quantized:
            full_precision += prod(shape)
            continue
        # A channel's scale stands for its output or, where the layer lies turned, its input.
        groups = ceil(prod(shape) / group) if group else max(shape)
        rounded_bytes += ceil(prod(shape) * method.bits / 8)
        rounded_bytes += groups * method.scale_bytes + _LAYER_BYTES
    return full_precision, rounded_bytes
