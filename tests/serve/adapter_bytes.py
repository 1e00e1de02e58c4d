"""Adapters and models written as bytes: safetensors headers and settings, without peft or torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from foundation.models.model import ModelRef

Shape = tuple[int, ...]

HIDDEN, INNER, ROWS = 8, 16, 24
MATRICES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.v_proj": (HIDDEN, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}
TARGETS = ["q_proj", "v_proj", "down_proj"]


def write_base(folder: Path, **about: Any) -> ModelRef:
    """A Llama's names and shapes in two layers, with what else `config.json` says."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes = {
        f"model.layers.{i}.{name}.weight": shape for i in (0, 1) for name, shape in MATRICES.items()
    }
    shapes["model.embed_tokens.weight"] = (ROWS, HIDDEN)
    write_tensors(folder / "model.safetensors", shapes)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": 2,
        "tie_word_embeddings": True,
        **about,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    return ModelRef("base", None, folder)


def write_adapter(folder: Path, shapes: Mapping[str, Shape], **config: Any) -> Path:
    """An adapter whose file holds these tensors, all ones, whatever its settings say."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "adapter_model.safetensors", shapes)
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": TARGETS, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def matrices(rank: int = 4, prefix: str = "base_model.model.") -> dict[str, Shape]:
    """A and B for every matrix of `write_base`, as PEFT names them."""
    return {
        f"{prefix}model.layers.{i}.{name}.lora_{part}.weight": (rank, inputs)
        if part == "A"
        else (outputs, rank)
        for i in (0, 1)
        for name, (outputs, inputs) in MATRICES.items()
        for part in "AB"
    }


def write_tensors(file: Path, shapes: Mapping[str, Shape]) -> None:
    save_file({name: np.ones(shape, np.float32) for name, shape in shapes.items()}, file)
