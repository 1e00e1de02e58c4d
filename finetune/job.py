"""What a training starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune.config import FinetuneConfig
from foundation.data.examples import Example, PromptStyle
from foundation.models.model import ModelRef


@dataclass(frozen=True)
class TrainingJob:
    """Settings, base model, examples, and the style that renders their prompts.

    Held-out examples are only evaluated on. `style` is None for examples as they stand.
    """

    config: FinetuneConfig
    base: ModelRef
    train: Sequence[Example]
    heldout: Sequence[Example]
    style: PromptStyle | None
