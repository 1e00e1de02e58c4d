"""bitsandbytes checkpoints, written through transformers: NF4 and LLM.int8()."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from foundation.models.loading import load_causal_lm
from foundation.progress import Progress
from quantize.layers import FUSED
from quantize.plan import QuantizationPlan


def write_bitsandbytes(plan: QuantizationPlan, out: Path, progress: Progress) -> dict[str, object]:
    """Write the checkpoint, and return what the recipe says of it.

    The model is saved before any forward pass: on some processors the first one repacks NF4 weights
    for good.
    """
    progress.stage(f"quantize {plan.config.method}", None, "layer")
    import torch
    from transformers import BitsAndBytesConfig

    four_bits, skipped = plan.method.bits == 4, _skipped(plan.kept)
    if four_bits:
        settings = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.bfloat16,
            llm_int8_skip_modules=skipped,
        )
    else:
        settings = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    model = load_causal_lm(
        plan.source.path, dtype="auto", quantization_config=settings, device_map={"": "cpu"}
    )
    model.eval().save_pretrained(out)
    blocks = {"block_size": plan.method.block_size} if plan.method.block_size else {}
    return {"format": plan.method.format, **blocks}


def _skipped(kept: Sequence[str]) -> list[str]:
    """The kept layers, and vLLM's names for those that it multiplies as one matrix."""
    fused = [
        f"{name.rpartition('.')[0]}.{together}"
        for name in kept
        for together, parts in FUSED.items()
        if name.rpartition(".")[2] == parts[0]
    ]
    return [*kept, *fused]
