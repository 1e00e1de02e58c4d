"""How large a quantized checkpoint will be, from the shapes of its source."""

from __future__ import annotations

from math import ceil, prod

from foundation.models.model import ModelRef
from quantize.config import BITS, Method, QuantizeConfig
from quantize.layers import check_widths, kept_layers, linear_inputs

_GROUP_BYTES: dict[Method, int] = {
    "w8a8-int8": 4,
    "w4a16": 6,
    "fp8-dynamic": 4,
    "nvfp4": 1,
    "bnb-nf4": 4,
    "bnb-int8": 4,
}
"""The most that is stored for a group or channel: a scale, with w4a16 also a zero point."""

_LAYER_BYTES = 1024
"""The shape, the global scale, or bitsandbytes' table and its state."""

_BITSANDBYTES_BLOCK: dict[Method, int] = {"bnb-nf4": 64}


def planned_weights(source: ModelRef, config: QuantizeConfig) -> tuple[int, int]:
    """Returns the number of weights that stay in full precision, and the most bytes that the others take.

    Raises BadInput as `kept_layers` and `check_widths` do.
    """
    kept = set(kept_layers(source, config.keep))
    quantized = {f"{name}.weight" for name in linear_inputs(source) if name not in kept}
    group = check_widths(source, config) or _BITSANDBYTES_BLOCK.get(config.method)
    full_precision = rounded_bytes = 0
    for name, shape in source.shapes().items():
        if name not in quantized:
            full_precision += prod(shape)
            continue
        # A channel's scale stands for its output or, where the layer lies turned, its input.
        groups = ceil(prod(shape) / group) if group else max(shape)
        rounded_bytes += ceil(prod(shape) * BITS[config.method] / 8)
        rounded_bytes += groups * _GROUP_BYTES[config.method] + _LAYER_BYTES
    return full_precision, rounded_bytes
