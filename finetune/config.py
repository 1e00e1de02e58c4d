"""The section `finetune` of `experiment.yaml`: how an adapter is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from foundation.section import Section
from foundation.units import Count, Share


class FinetuneConfig(Section):
    """LoRA on a causal LM. `batch_size` examples a step, in `accumulation` parts; `epochs` keeps one adapter each.

    `prompt` names the experiment's prompt style the model is trained with (None: the examples as they stand).
    `limit` trains on a seeded sample of that many examples.
    """

    method: Literal["lora"] = "lora"
    prompt: str | None = None
    rank: Count = Field(default=16, ge=1)
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: str | tuple[str, ...] = "all-linear"
    epochs: Count = Field(default=1, ge=1)
    learning_rate: float = Field(default=2e-4, gt=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: Share = 0.03
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    batch_size: Count = Field(default=16, ge=1)
    accumulation: Count = Field(default=1, ge=1)
    max_length: Count = Field(default=1024, ge=1)
    limit: Count | None = Field(default=None, ge=1)
    eval_limit: Count = 128
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    seed: int = 0

    @model_validator(mode="after")
    def _whole_parts(self) -> FinetuneConfig:
        if self.batch_size % self.accumulation:
            raise ValueError(f"accumulation: {self.accumulation} parts do not divide a batch of {self.batch_size} examples")
        return self

    @property
    def modules(self) -> str | list[str]:
        """`target_modules` as peft takes them: "all-linear", or a list of names."""
        asked = self.target_modules
        if asked == "all-linear":
            return asked
        return [asked] if isinstance(asked, str) else list(asked)
