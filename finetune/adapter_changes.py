"""Checks what a training changed: each layer of the adapter, to finite numbers.

Imports torch: import it inside the function that trains.
"""

from __future__ import annotations

from typing import Any

import torch

from foundation.errors import SystemFailed
from foundation.models.lora import PREFIX


class LoraOutputs:
    """The B of every adapted layer before training.

    LoRA starts it at zero: where it is unchanged, the layer is the base's.
    """

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self._tensors = tensors

    @classmethod
    def of(cls, model: Any) -> LoraOutputs:
        """Copy them from a model."""
        return cls(
            {name: tensor.detach().to("cpu", copy=True) for name, tensor in _outputs(model).items()}
        )

    def __len__(self) -> int:
        return len(self._tensors)

    def untouched(self, model: Any) -> list[str]:
        """The layers whose B is what it was, by their path in the base model."""
        return [
            name
            for name, tensor in _outputs(model).items()
            if torch.equal(tensor.detach().cpu(), self._tensors[name])
        ]

    def all_of(self, layers: list[str]) -> bool:
        """Whether the layers are all that the adapter has."""
        return bool(self._tensors) and len(layers) == len(self._tensors)


def _outputs(model: Any) -> dict[str, torch.Tensor]:
    """The B of each adapted layer, by the layer's path in the base model."""
    named = {name: tensor for name, tensor in model.named_parameters() if ".lora_B." in name}
    return {
        name.partition(".lora_B.")[0].removeprefix(PREFIX): tensor for name, tensor in named.items()
    }


def check_finite(model: Any, step: int) -> None:
    """Raises SystemFailed where a trained weight is no number.

    The loss may not have shown it yet.
    """
    for name, tensor in model.named_parameters():
        if tensor.requires_grad and not torch.isfinite(tensor).all():
            raise SystemFailed(
                f"training stopped: {name} holds values that are no numbers after step {step}; "
                "lower finetune.learning_rate or finetune.max_grad_norm"
            )
