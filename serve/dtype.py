"""Which number format a server computes in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from foundation.errors import BadInput
from foundation.models.model import ModelRef
from foundation.processor import computes_bfloat16, instruction_sets
from serve.config import ServeConfig
from serve.variant import ServedVariant

Dtype = Literal["auto", "bfloat16", "float16", "float32"]
_SLOW = (
    "this processor has no instructions for bfloat16 (avx512_bf16, amx_bf16): "
    "emulated, it is about three times slower"
)


@dataclass(frozen=True)
class ServedDtype:
    """A server's `--dtype` ("auto" lets vLLM decide, on accelerators) and notes for the reader.

    `note`: what a reader of the server's numbers should know.
    `doubt`: the experiment asks for a format that the CPU emulates and a faster one exists.
    """

    dtype: Dtype
    note: str | None = None
    doubt: str | None = None


def served_dtype(variant: ServedVariant, config: ServeConfig, on_cpu: bool) -> ServedDtype:
    """The format for a variant; `auto` is the fastest that processor and checkpoint allow.

    vLLM's CPU kernels for 4-bit weights take 16-bit numbers only, so such checkpoints stay in
    bfloat16. Raises BadInput for such a checkpoint with float32.
    """
    dtype: Dtype = config.dtype
    if not on_cpu:
        return ServedDtype(dtype)
    four_bits = has_four_bits(variant)
    if dtype == "float32" and four_bits:
        raise BadInput(
            f"serve.dtype: {variant.name} has weights of four bits, which vLLM's CPU backend "
            "serves in 16-bit formats only; write auto or bfloat16"
        )
    sets = instruction_sets()
    fast = computes_bfloat16(sets)
    if dtype == "auto":
        return _automatic(variant, four_bits, fast)
    if (dtype == "bfloat16" and not fast) or (dtype == "float16" and "avx512_fp16" not in sets):
        doubt = (
            f"served in {dtype}, which this processor has no instructions for and emulates: "
            "float32 or auto is faster"
        )
        return ServedDtype(dtype, doubt, None if four_bits else doubt)
    return ServedDtype(dtype)


def _automatic(variant: ServedVariant, four_bits: bool, fast_bfloat16: bool) -> ServedDtype:
    if fast_bfloat16:
        return ServedDtype("bfloat16")
    if four_bits:
        note = f"{variant.name}: in bfloat16, which its kernels of four bits need; {_SLOW}"
        return ServedDtype("bfloat16", note)
    return ServedDtype("float32", f"in float32: {_SLOW}")


def has_four_bits(variant: ServedVariant) -> bool:
    """Whether the weights of the variant's layers are, or will be, quantized to four bits."""
    return variant.bits == 4 or (variant.model is not None and _stores_four_bits(variant.model))


def _stores_four_bits(model: ModelRef) -> bool:
    if not (model.path / "config.json").is_file():
        return False
    quantization = model.config().get("quantization_config")
    if not isinstance(quantization, dict):
        return False
    groups = quantization.get("config_groups")
    weights = (
        [group.get("weights") for group in groups.values() if isinstance(group, dict)]
        if isinstance(groups, dict)
        else []
    )
    return (
        quantization.get("load_in_4bit") is True
        or quantization.get("bits") == 4  # GPTQ and AWQ
        or any(isinstance(each, dict) and each.get("num_bits") == 4 for each in weights)
    )
