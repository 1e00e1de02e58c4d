"""The section `finetune` of `experiment.yaml`: how an adapter is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from foundation.section import Section
from foundation.units import Count, Share


class FinetuneConfig(Section):
    """LoRA on a causal LM. `batch_size` examples a step, in `accumulation` parts; `epochs` keeps one adapter each.

    `method`: "rslora" scales by the root of the rank, "dora" learns each weight's length apart from its direction, "pissa" starts
    from the weight's largest singular vectors, "qlora" holds the base in `base_format`. `prompt` names the experiment's prompt
    style the model is trained with (None: the examples as they stand). `train_on`: of a conversation the last answer is
    learned, or all of them. `limit` trains on a seeded sample of that many examples.
    `packing` lays examples end to end in rows of `max_length`; `batch_size` then counts rows. The best epoch by what is watched,
    the held-out loss or the task's own score, is the adapter; `patience` epochs without a better one end the training.
    """

    method: Literal["lora", "rslora", "dora", "pissa", "qlora"] = "lora"
    base_format: Literal["nf4", "int8"] = "nf4"
    prompt: str | None = None
    train_on: Literal["last", "all"] = "last"
    rank: Count = Field(default=16, ge=1)
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: str | tuple[str, ...] = "all-linear"
    modules_to_save: tuple[str, ...] = ()
    epochs: Count = Field(default=1, ge=1)
    learning_rate: float = Field(default=2e-4, gt=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: Share = 0.03
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    batch_size: Count = Field(default=16, ge=1)
    accumulation: Count = Field(default=1, ge=1)
    max_length: Count = Field(default=1024, ge=1)
    too_long: Literal["refuse", "drop", "truncate"] = "refuse"
    packing: bool = False
    gradient_checkpointing: bool = False
    limit: Count | None = Field(default=None, ge=1)
    eval_limit: Count = 128
    watch: Literal["loss", "score"] = "loss"
    patience: Count | None = Field(default=None, ge=1)
    checkpoint_steps: Count | None = Field(default=None, ge=1)
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    trust_remote_code: bool = False
    seed: int = 0

    @model_validator(mode="after")
    def _fits_together(self) -> FinetuneConfig:
        if self.batch_size % self.accumulation:
            raise ValueError(f"accumulation: {self.accumulation} parts do not divide a batch of {self.batch_size} examples")
        if self.base_format != "nf4" and self.method != "qlora":
            raise ValueError(f"base_format: {self.base_format} belongs to method: qlora")
        if self.method == "pissa" and self.modules_to_save:
            raise ValueError(
                "modules_to_save: a pissa adapter is turned into a plain one when it is saved, which holds no modules"
            )
        if (self.patience or self.watch == "score") and not self.eval_limit:
            raise ValueError("eval_limit: patience and watch: score need held-out examples; write 1 or more")
        return self

    @property
    def modules(self) -> str | list[str]:
        """`target_modules` as peft takes them: "all-linear", or a list of names."""
        asked = self.target_modules
        if asked == "all-linear":
            return asked
        return [asked] if isinstance(asked, str) else list(asked)

    @property
    def saved_rank(self) -> int:
        """The rank of the adapter's file: what PiSSA learned is its last state less its first, twice the rank."""
        return 2 * self.rank if self.method == "pissa" else self.rank

    @property
    def why_only_merged(self) -> str | None:
        """Why no server takes the adapter beside its base; None where it does."""
        if self.method == "dora":
            return "vLLM does not serve DoRA adapters"
        if self.modules_to_save:
            return f"vLLM does not serve adapters that replace whole modules ({', '.join(self.modules_to_save)})"
        return None
