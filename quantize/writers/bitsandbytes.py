"""bitsandbytes checkpoints, written through transformers: NF4, and LLM.int8()."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foundation.models.loading import load_causal_lm
from foundation.models.model import ModelRef
from foundation.progress import Progress
from quantize.config import Method
from quantize.layers import FUSED


def write_bitsandbytes(
    source: ModelRef, method: Method, kept: Sequence[str], out: Path, progress: Progress
) -> dict[str, Any]:
    """Write the checkpoint, saved before any forward pass: on some processors the first one repacks NF4 weights for good."""
    progress.stage(f"quantize {method}", None, "layer")
    import torch
    from transformers import BitsAndBytesConfig

    skipped = _skipped(kept)
    if method == "bnb-nf4":
        settings = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.bfloat16,
            llm_int8_skip_modules=skipped,
        )
    else:
        settings = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    model = load_causal_lm(
        source.path, dtype="auto", quantization_config=settings, device_map={"": "cpu"}
    )
    model.eval().save_pretrained(out)
    return {"format": "bitsandbytes"} | ({"block_size": 64} if method == "bnb-nf4" else {})


def _skipped(kept: Sequence[str]) -> list[str]:
    """The layers' names, and those that vLLM gives to what it multiplies as one matrix: it looks for these."""
    fused = [
        f"{name.rpartition('.')[0]}.{together}"
        for name in kept
        for together, parts in FUSED.items()
        if name.rpartition(".")[2] == parts[0]
    ]
    return [*kept, *fused]
