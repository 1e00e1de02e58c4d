"""The demo's variants without its training, which does not change how fast they are served."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dyno.experiment.bundled import bundled_model
from foundation.models.model import ModelRef
from foundation.progress import Silent
from quantize import merge, quantize
from quantize.config import QuantizeConfig

RANK = 8
"""As in the demo: an adapter costs a CPU the more, the higher its rank is."""


@dataclass(frozen=True)
class Checkpoint:
    """What a server loads: a model, and an adapter beside it or none."""

    name: str
    model: ModelRef
    adapter: Path | None = None


def make_checkpoints(folder: Path) -> list[Checkpoint]:
    """Base, base + untrained adapter, their merge, and the merge in INT8; about half a minute."""
    base = bundled_model("smollm2-135m-instruct", Silent())
    adapter = _untrained_adapter(base, folder / "adapter")
    merged = merge(base, adapter, folder / "merged", Silent())
    int8 = folder / "int8"
    quantize(merged, QuantizeConfig(method="w8a8-int8"), int8, Silent())
    return [
        Checkpoint("base", base),
        Checkpoint("tuned", base, adapter),
        Checkpoint("merged", merged),
        Checkpoint("int8", ModelRef("int8", None, int8)),
    ]


def _untrained_adapter(base: ModelRef, folder: Path) -> Path:
    """An adapter of small random numbers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base.path)
    config = LoraConfig(r=RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(0)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:  # zero as it comes: a merge would change nothing, and is refused
            weight.data.normal_(0, 0.001, generator=generator)
    adapted.save_pretrained(folder)
    return folder
