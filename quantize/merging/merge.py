"""Merges an adapter into its base."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation.errors import BadInput, SystemFailed
from foundation.files.atomic_write import write_whole
from foundation.files.content_hash import file_sha256
from foundation.models.companions import copy_companions, copy_tokenizer
from foundation.models.loading import load_adapter, load_causal_lm
from foundation.models.lora import WEIGHTS
from foundation.models.model import ModelRef
from foundation.models.weights import headers_of, shapes_of
from foundation.progress import Progress
from foundation.quiet_libraries import quiet_libraries
from quantize.checkpoint import make_room, write_recipe
from quantize.merging.adapter_check import check_adapter, is_tied, read_adapter_config
from quantize.merging.adapter_tensors import Parts, TensorNames, is_embedding, is_head, parts_of
from quantize.merging.merge_check import check_merged

if TYPE_CHECKING:
    import torch

MOST_DIFFERENCE = 0.1
"""The most that the merged model's logits may differ from the adapter's.

Mean over the probe, as a share of their standard deviation: rounding makes far less.
"""

PROBE = "Explain quantum computing in simple terms:"
"""The prompt on which the logits of the adapter model and of the merged one are compared."""

_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def merge(base: ModelRef, adapter: Path, out: Path, progress: Progress) -> ModelRef:
    """Write base + adapter to `out`, added in float32, each tensor in the dtype of the base's file.

    PEFT adds. The written files are then read back: every tensor is compared with base + adapter as
    computed from the adapter's own tensors, and the model's logits with those of the adapter as
    PEFT runs it. Raises BadInput where the adapter is broken or another base's, the base is
    quantized, or the disk is full; SystemFailed where the files hold anything else.
    """
    warnings = check_adapter(adapter, base)
    check_merge(base)
    make_room(out, base.size_bytes())
    quiet_libraries()
    progress.stage(f"merge {adapter.name}", 4, "step")
    started = time.perf_counter()
    prompt = _prompt(base)
    logits, dtype = _add(base, adapter, prompt, out, progress)
    _write_dtype(out, base, dtype)
    copy_companions(base.path, out)
    copy_tokenizer(adapter, out)
    merged = ModelRef(f"{base.id}+{adapter.name}", base.revision, out)
    changed = check_merged(base, adapter, merged)
    progress.advance(1, "running what was written")
    difference = _logit_difference(merged, prompt, logits, f"{adapter}: merged into {base.id}")
    recipe = {
        "method": "merge",
        "adapter": _adapter_recipe(adapter, changed, warnings),
        "merged_in": "float32",
        "dtype": dtype,
        "logit_difference": difference,
        "seconds": round(time.perf_counter() - started, 3),
    }
    write_recipe(out, base, ["peft"], recipe)
    progress.advance(1)
    return merged


def _adapter_recipe(adapter: Path, changed: int, warnings: list[str]) -> dict[str, object]:
    settings = read_adapter_config(adapter)
    return {
        "sha256": file_sha256(adapter / WEIGHTS),
        "rank": settings.get("r"),
        "alpha": settings.get("lora_alpha"),
        "changed_tensors": changed,
        "warnings": warnings,
    }


def check_merge(base: ModelRef) -> None:
    """Raises BadInput for a quantized base.

    What the adapter adds would be lost in rounding, and rounded a second time.
    """
    if "quantization_config" in base.config():
        raise BadInput(
            f"{base.id}: already quantized; an adapter is merged into the full-precision model, "
            "which is then quantized once"
        )


def _add(
    base: ModelRef, adapter: Path, prompt: torch.Tensor, out: Path, progress: Progress
) -> tuple[torch.Tensor, str]:
    """Merge with PEFT and write; returns the adapter's logits, and the base's commonest dtype."""
    import torch

    parts = parts_of(adapter)
    with torch.no_grad():
        model = load_causal_lm(base.path, dtype=torch.float32).eval()
        if (rows := _embedding_rows(adapter, parts)) is not None:
            model.resize_token_embeddings(rows, mean_resizing=False)
        if _trains_one_of_two(base, parts):
            _untie(model)
        model = load_adapter(model, adapter)
        logits = model(input_ids=prompt).logits
        progress.advance(1, "adding")
        merged = model.merge_and_unload()
        dtype = _cast(merged, _dtypes(base), tied=is_tied(base))
        progress.advance(1, "writing")
        merged.save_pretrained(out)
    return logits, dtype


def _trains_one_of_two(base: ModelRef, parts: Parts) -> bool:
    """Whether the adapter changes tied embeddings as input alone or as head alone.

    Merged, they are two matrices.
    """
    return is_tied(base) and any(
        "A" in roles or "embedding_A" in roles
        for target, roles in parts.items()
        if is_embedding(target) or is_head(target)
    )


def _untie(model: Any) -> None:
    """Give the head a matrix of its own; PEFT corrects the config when it merges."""
    import torch

    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())


def _embedding_rows(adapter: Path, parts: Parts) -> int | None:
    """The vocabulary size of an adapter with embeddings of its own (new tokens), else None."""
    shapes = shapes_of(adapter / WEIGHTS)
    whole = (
        shapes[roles["whole"]]
        for target, roles in parts.items()
        if "whole" in roles and is_embedding(target)
    )
    return next((shape[0] for shape in whole), None)


def _dtypes(base: ModelRef) -> dict[str, str]:
    """The dtype of each tensor, by its name in the base's files, as torch calls it."""
    headers = {name: tensor for file in base.shards() for name, tensor in headers_of(file).items()}
    return {
        name: _DTYPES[tensor.dtype] for name, tensor in headers.items() if tensor.dtype in _DTYPES
    }


def _cast(model: Any, dtypes: Mapping[str, str], *, tied: bool) -> str:
    """Cast each weight to its dtype in the base's files, and return the commonest one.

    Rotary frequencies are in no file and stay as they are. A weight that the files have under
    another name gets the commonest dtype.
    """
    import torch

    names = TensorNames(dtypes, tied=tied)
    commonest = Counter(dtypes.values()).most_common(1)[0][0]
    for name, tensor in model.state_dict(keep_vars=True).items():
        if tensor.is_floating_point():
            source = names.find(name)
            tensor.data = tensor.data.to(getattr(torch, dtypes[source] if source else commonest))
    return commonest


def _write_dtype(out: Path, base: ModelRef, commonest: str) -> None:
    """Name the base's dtype in `config.json`, so that both are served in the same one.

    Where the base names none, the commonest of its weights.
    """
    file, before = out / "config.json", base.config()
    config = json.loads(file.read_text(encoding="utf-8"))
    config["dtype"] = before.get("dtype") or before.get("torch_dtype") or commonest
    write_whole(file, json.dumps(config, indent=2) + "\n")


def _logit_difference(
    merged: ModelRef, prompt: torch.Tensor, expected: torch.Tensor, what: str
) -> dict[str, float]:
    """How far the written model's logits, in float32, are from the adapter's.

    That is what the cast to the base's dtype costs.
    """
    import torch

    with torch.no_grad():
        logits = load_causal_lm(merged.path, dtype=torch.float32).eval()(input_ids=prompt).logits
    difference, spread = (logits - expected).abs(), float(expected.std())
    # Written so that NaN fails too.
    if not float(difference.mean()) <= MOST_DIFFERENCE * spread:
        raise SystemFailed(
            f"{what} it does not give the adapter's logits "
            f"(mean difference {difference.mean():.3g} where they vary by {spread:.3g})"
        )
    return {
        "max": float(difference.max()),
        "mean": float(difference.mean()),
        "prompt_tokens": prompt.size(1),
    }


def _prompt(base: ModelRef) -> torch.Tensor:
    from transformers import AutoTokenizer

    tokens: torch.Tensor = AutoTokenizer.from_pretrained(base.path)(PROBE, return_tensors="pt")[
        "input_ids"
    ]
    return tokens
