"""Adapters trained by PEFT, altered by a test, and the tensors of their files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from foundation.models.model import ModelRef
from foundation.progress import Silent
from quantize import merge
from tests.quantize.conftest import MODULES

FILE = "adapter_model.safetensors"


Q = "model.layers.0.self_attn.q_proj"


def train(base: ModelRef, folder: Path, *, seed: int = 3, **lora: Any) -> Path:
    """An adapter with random numbers in all that it trains, as PEFT saves it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    settings = {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": list(MODULES),
        "task_type": "CAUSAL_LM",
    } | lora
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32),
            LoraConfig(**settings),
        )
        for name, parameter in model.named_parameters():
            if any(
                part in name for part in ("lora_", "modules_to_save", "trainable_tokens", ".bias")
            ):
                parameter.data = parameter.data + 0.1 * torch.randn(parameter.shape)
    model.peft_config["default"].base_model_name_or_path = base.id
    model.save_pretrained(folder)
    return folder


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {
        name: tensor
        for file in folder.glob("*.safetensors")
        for name, tensor in load_file(file).items()
    }


def rewrite(folder: Path, change: Callable[[str, torch.Tensor], tuple[str, torch.Tensor]]) -> Path:
    """The adapter's file with other names and values."""
    written = dict(change(name, tensor) for name, tensor in load_file(folder / FILE).items())
    save_file(
        {name: tensor.contiguous() for name, tensor in written.items()},
        folder / FILE,
        metadata={"format": "pt"},
    )
    return folder


def settings(folder: Path, **changed: Any) -> Path:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    return folder


def merged_weights(base: ModelRef, adapter: Path, out: Path) -> dict[str, torch.Tensor]:
    return tensors(merge(base, adapter, out, Silent()).path)
