"""Fold an adapter into its base."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation.errors import BadInput
from foundation.model import ModelRef
from foundation.progress import Progress
from foundation.quiet import quiet_libraries
from quantize.adapter import check_adapter
from quantize.checkpoint import copy_companions, make_room, write_recipe

if TYPE_CHECKING:
    import torch

PROBE = "Explain quantum computing in simple terms:"
"""Asked of the adapter model and of the merged one; the difference of their logits goes into the recipe."""


def merge(base: ModelRef, adapter: Path, out: Path, progress: Progress) -> ModelRef:
    """Write base + adapter to `out`: added in float32, then cast to the base's own dtype.

    Raises BadInput where the adapter is for another base, the base is quantized, or the disk is full.
    """
    check_adapter(adapter, base)
    dtype = _dtype_of(base)
    make_room(out, base.size_bytes())
    quiet_libraries()
    progress.stage(f"merge {adapter.name}", 3, "step")
    started = time.perf_counter()

    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32, use_safetensors=True).eval()
        model = PeftModel.from_pretrained(model, adapter).eval()
        prompt = _prompt(base)
        wanted = model(input_ids=prompt).logits
        progress.advance(1, "adding")
        merged = _cast(model.merge_and_unload(), getattr(torch, dtype))
        progress.advance(1, "writing")
        merged.save_pretrained(out)
        # The weights as they were written, computed in float32 again: the difference is what the cast to `dtype` costs.
        difference = (_cast(merged, torch.float32)(input_ids=prompt).logits - wanted).abs()
    copy_companions(base.path, out)
    settings = json.loads((adapter / "adapter_config.json").read_text())
    write_recipe(
        out,
        base,
        ["peft"],
        method="merge",
        adapter={
            "sha256": hashlib.sha256((adapter / "adapter_model.safetensors").read_bytes()).hexdigest(),
            "rank": settings.get("r"),
            "alpha": settings.get("lora_alpha"),
        },
        merged_in="float32",
        dtype=dtype,
        logit_difference={"max": float(difference.max()), "mean": float(difference.mean()), "prompt_tokens": prompt.size(1)},
        seconds=round(time.perf_counter() - started, 3),
    )
    progress.advance(1)
    return ModelRef(id=f"{base.id}+{adapter.name}", revision=base.revision, path=out)


def _dtype_of(base: ModelRef) -> str:
    about: dict[str, Any] = base.config()
    if "quantization_config" in about:
        raise BadInput(
            f"{base.id}: already quantized; an adapter is merged into the full-precision model, which is then quantized once"
        )
    return str(about.get("dtype") or about.get("torch_dtype") or "float32")


def _cast(model: Any, dtype: torch.dtype) -> Any:
    """Parameters only: rotary frequencies are buffers, are not saved, and would come back rounded."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype
    return model


def _prompt(base: ModelRef) -> torch.Tensor:
    from transformers import AutoTokenizer

    tokens: torch.Tensor = AutoTokenizer.from_pretrained(base.path)(PROBE, return_tensors="pt")["input_ids"]
    return tokens
