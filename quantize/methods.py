"""The quantization methods: how each stores a weight, and what can learn its rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from quantize import stored_layers
from quantize.stored_layers import NF4_STATE, LayerTensors, StoredLayer

Method = Literal["w8a8-int8", "w4a16", "fp8-dynamic", "nvfp4", "bnb-nf4", "bnb-int8"]
Algorithm = Literal["rtn", "gptq", "awq", "smoothquant"]


@dataclass(frozen=True)
class CompressedTensors:
    """A scheme of compressed-tensors. All are symmetric.

    `preset` is the scheme's name there, `layout` the storage format's, `strategy` what shares a
    scale.
    """

    preset: Literal["W8A8", "W4A16", "FP8_DYNAMIC", "NVFP4A16"]
    layout: Literal["int-quantized", "pack-quantized", "float-quantized", "nvfp4-pack-quantized"]
    strategy: Literal["channel", "group", "tensor_group"]
    scale_dtype: str | None = None


@dataclass(frozen=True)
class QuantizationMethod:
    """What a method does to the weight of a linear layer.

    `tensors` are those of a stored layer, by their names behind the layer's; `read` reads them
    back. `group_sizes` are the numbers of inputs that can share a scale, the preferred one first;
    empty where a row, or a block of `block_size` numbers of the flattened weight, shares one.
    `scale_bytes` is the most that is stored for a scale and its zero point. `scheme` is None for
    bitsandbytes.
    """

    bits: Literal[4, 8]
    number: Literal["int", "float"]
    algorithms: tuple[Algorithm, ...]
    tensors: tuple[str, ...]
    read: Callable[[LayerTensors], StoredLayer]
    group_sizes: tuple[int, ...] = ()
    block_size: int | None = None
    scale_bytes: int = 4
    scheme: CompressedTensors | None = None

    @property
    def format(self) -> str:
        """The checkpoint's format, which is also the name of the distribution that defines it."""
        return "bitsandbytes" if self.scheme is None else "compressed-tensors"

    @property
    def package(self) -> str:
        """The name under which Python imports that distribution."""
        return self.format.replace("-", "_")


METHODS: dict[Method, QuantizationMethod] = {
    "w8a8-int8": QuantizationMethod(
        bits=8,
        number="int",
        algorithms=("rtn", "gptq", "smoothquant"),
        tensors=("weight", "weight_scale"),
        read=stored_layers.int8,
        scheme=CompressedTensors("W8A8", "int-quantized", "channel"),
    ),
    "w4a16": QuantizationMethod(
        bits=4,
        number="int",
        algorithms=("rtn", "gptq", "awq"),
        tensors=("weight_packed", "weight_scale", "weight_shape"),
        read=stored_layers.int4,
        group_sizes=(128, 64, 32),
        scale_bytes=6,
        scheme=CompressedTensors("W4A16", "pack-quantized", "group"),
    ),
    "fp8-dynamic": QuantizationMethod(
        bits=8,
        number="float",
        algorithms=("rtn",),
        tensors=("weight", "weight_scale"),
        read=stored_layers.fp8,
        scheme=CompressedTensors("FP8_DYNAMIC", "float-quantized", "channel"),
    ),
    # The weights alone are rounded: rounding activations too takes calibration.
    "nvfp4": QuantizationMethod(
        bits=4,
        number="float",
        algorithms=("rtn",),
        tensors=("weight_packed", "weight_scale", "weight_global_scale"),
        read=stored_layers.fp4,
        group_sizes=(16,),
        scale_bytes=1,
        scheme=CompressedTensors(
            "NVFP4A16", "nvfp4-pack-quantized", "tensor_group", "torch.float8_e4m3fn"
        ),
    ),
    "bnb-nf4": QuantizationMethod(
        bits=4,
        number="float",
        algorithms=("rtn",),
        tensors=("weight", "weight.absmax", "weight.quant_map", NF4_STATE),
        read=stored_layers.nf4,
        block_size=64,
    ),
    "bnb-int8": QuantizationMethod(
        bits=8,
        number="int",
        algorithms=("rtn",),
        tensors=("weight", "SCB"),
        read=stored_layers.llm_int8,
    ),
}
