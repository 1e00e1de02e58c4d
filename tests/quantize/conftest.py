from __future__ import annotations

import json
from pathlib import Path

import pytest

from foundation.models.model import ModelRef
from tests.tiny_model import build_tiny_model

MODULES = ("q_proj", "v_proj", "down_proj")


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return build_tiny_model(tmp_path_factory.mktemp("base"), initializer_range=0.2)


@pytest.fixture(scope="session")
def adapter(base: ModelRef, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_adapter(base, tmp_path_factory.mktemp("adapters") / "tuned")


def build_adapter(
    base: ModelRef, folder: Path, *, fingerprint: bool = True, named: str | None = None
) -> Path:
    """A LoRA adapter of random weights (B too, which training starts at zero), rank 4, alpha 8."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base.path),
        LoraConfig(r=4, lora_alpha=8, target_modules=list(MODULES)),
    )
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    model.peft_config["default"].base_model_name_or_path = named or base.id
    model.save_pretrained(folder, save_embedding_layers=False)
    if fingerprint:
        about = {
            "base": {"id": base.id, "revision": base.revision, "fingerprint": base.fingerprint()}
        }
        (folder / "tunedyno.json").write_text(json.dumps(about))
    return folder


@pytest.fixture(scope="session")
def exact(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    """A tiny model in float32, so that no rounding hides a difference."""
    return build_tiny_model(
        tmp_path_factory.mktemp("exact"), dtype="float32", initializer_range=0.2
    )


@pytest.fixture(scope="session")
def untied(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    """A tiny model whose output head has weights of its own."""
    return build_tiny_model(tmp_path_factory.mktemp("untied"), tied=False, initializer_range=0.2)
