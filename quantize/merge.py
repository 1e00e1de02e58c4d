"""Fold an adapter into its base."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation.errors import BadInput, SystemFailed
from foundation.model import ModelRef
from foundation.progress import Progress
from foundation.quiet import quiet_libraries
from foundation.weights import shapes_of
from quantize.adapter import check_adapter
from quantize.checkpoint import copy_companions, make_room, write_recipe

if TYPE_CHECKING:
    import torch

MOST_DIFFERENCE = 0.1
"""Of the merged model's logits from the adapter's, mean over the probe, as a share of their spread: rounding makes far less."""

PROBE = "Explain quantum computing in simple terms:"
"""Asked of the adapter model and of the merged one; the difference of their logits goes into the recipe."""


def merge(base: ModelRef, adapter: Path, out: Path, progress: Progress) -> ModelRef:
    """Write base + adapter to `out`: added in float32, then cast to the base's own dtype.

    Raises BadInput where the adapter is for another base, the base is quantized, or the disk is full, SystemFailed where the
    merged model does not give the adapter's logits.
    """
    check_adapter(adapter, base)
    check_merge(base)
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
        if (rows := _embedding_rows(adapter)) is not None:
            model.resize_token_embeddings(rows, mean_resizing=False)
        model = PeftModel.from_pretrained(model, adapter).eval()
        prompt = _prompt(base)
        wanted = model(input_ids=prompt).logits
        progress.advance(1, "adding")
        merged = _cast(model.merge_and_unload(), getattr(torch, dtype))
        progress.advance(1, "writing")
        merged.save_pretrained(out)
        # The weights as they were written, computed in float32 again: the difference is what the cast to `dtype` costs.
        difference = (_cast(merged, torch.float32)(input_ids=prompt).logits - wanted).abs()
        if float(difference.mean()) > MOST_DIFFERENCE * float(wanted.std()):
            raise SystemFailed(
                f"{adapter}: merged into {base.id} it does not give the adapter's logits (mean difference "
                f"{difference.mean():.3g} where they vary by {wanted.std():.3g})"
            )
    copy_companions(base.path, out)
    if rows is not None:
        copy_companions(adapter, out, only="*token*")
    settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
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


def check_merge(base: ModelRef) -> None:
    """Raises BadInput for a quantized base: what the adapter adds would be lost in rounding, and rounded a second time."""
    if "quantization_config" in base.config():
        raise BadInput(
            f"{base.id}: already quantized; an adapter is merged into the full-precision model, which is then quantized once"
        )


def _embedding_rows(adapter: Path) -> int | None:
    """The size of the vocabulary of an adapter that brings embeddings of its own (tokens were added); None for the usual one."""
    saved = shapes_of(adapter / "adapter_model.safetensors")
    return next((shape[0] for name, shape in saved.items() if name.endswith("embed_tokens.weight") and len(shape) == 2), None)


def _dtype_of(base: ModelRef) -> str:
    about: dict[str, Any] = base.config()
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
