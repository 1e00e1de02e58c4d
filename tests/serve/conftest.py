from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foundation.models.model import ModelRef
from tests.tiny_model import build_tiny_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    """A random-weight chat model on disk."""
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def build_adapter(tiny: ModelRef) -> Callable[..., Path]:
    """`build_adapter(folder, **LoraConfig fields)`: peft saves an adapter that changes answers."""

    def build(folder: Path, **fields: Any) -> Path:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(tiny.path, dtype=torch.float32)
        config = LoraConfig(
            **{
                "r": 4,
                "lora_alpha": 8,
                "target_modules": "all-linear",
                "task_type": "CAUSAL_LM",
                **fields,
            }
        )
        adapted = get_peft_model(model, config)
        generator = torch.Generator().manual_seed(0)
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.data = torch.randn(weight.shape, generator=generator) * 0.5
        adapted.save_pretrained(folder)
        return folder

    return build


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory, build_adapter: Callable[..., Path]) -> Path:
    return build_adapter(tmp_path_factory.mktemp("adapter"))
