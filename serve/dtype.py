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
_SLOW = "this processor has no instructions for bfloat16 (avx512_bf16, amx_bf16): emulated, it is about three times slower"


@dataclass(frozen=True)
class ServedDtype:
    """What a server gets as `--dtype` ("auto": vLLM decides, on accelerators), and what a reader of its numbers should know.

    `doubt`: the experiment asks for what is emulated here, where something faster could be had.
    """

    dtype: Dtype
    note: str | None = None
    doubt: str | None = None


def served_dtype(variant: ServedVariant, config: ServeConfig, on_cpu: bool) -> ServedDtype:
    """`auto` is the fastest format that the processor has instructions for and the checkpoint can be served in.

    vLLM's CPU kernels of weights of four bits take 16-bit numbers only: they stay in bfloat16, wherever they are served.
    Raises BadInput for float32 asked of such a checkpoint.
    """
    asked: Dtype = config.dtype
    if not on_cpu:
        return ServedDtype(asked)
    four_bits = has_four_bits(variant)
    if asked == "float32" and four_bits:
        raise BadInput(
            f"serve.dtype: {variant.name} has weights of four bits, which vLLM's CPU backend serves in 16-bit formats only; "
            "write auto or bfloat16"
        )
    sets = instruction_sets()
    fast = computes_bfloat16(sets)
    if asked == "auto":
        if fast:
            return ServedDtype("bfloat16")
        if four_bits:
            return ServedDtype(
                "bfloat16",
                f"{variant.name}: in bfloat16, which its kernels of four bits need; {_SLOW}",
            )
        return ServedDtype("float32", f"in float32: {_SLOW}")
    if (asked == "bfloat16" and not fast) or (asked == "float16" and "avx512_fp16" not in sets):
        doubt = f"served in {asked}, which this processor has no instructions for and emulates: float32 or auto is faster"
        return ServedDtype(asked, doubt, None if four_bits else doubt)
    return ServedDtype(asked)


def has_four_bits(variant: ServedVariant) -> bool:
    """Whether the weights of its layers are, or will be, quantized to four bits."""
    return variant.bits == 4 or (variant.model is not None and _four_bits_there(variant.model))


def _four_bits_there(model: ModelRef) -> bool:
    if not (model.path / "config.json").is_file():
        return False
    about = model.config().get("quantization_config")
    if not isinstance(about, dict):
        return False
    groups = about.get("config_groups")
    weights = (
        [g.get("weights") for g in groups.values() if isinstance(g, dict)]
        if isinstance(groups, dict)
        else []
    )
    return (
        about.get("load_in_4bit") is True
        or about.get("bits") == 4  # GPTQ and AWQ
        or any(isinstance(w, dict) and w.get("num_bits") == 4 for w in weights)
    )
