"""The section `finetune` of `experiment.yaml`: how an adapter is trained."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from finetune.names_in_other_tools import ELSEWHERE
from foundation.path_fields import File
from foundation.section import Differences, Section
from foundation.units import Count, Share


class FinetuneConfig(Section):
    """LoRA on a causal LM.

    `batch_size` is the examples of a step, in `accumulation` parts; `epochs` keeps one adapter
    each. `method`: "rslora" scales by the root of the rank, "dora" learns each weight's length
    apart from its direction, "pissa" starts from the weight's largest singular vectors, "qlora"
    holds the base in `base_format`. `prompt` names the experiment's prompt style (None: the
    examples as they stand). `train_on` learns the last answer of a conversation, or all. `limit`
    trains on a seeded sample of that many examples. `packing` lays examples end to end in rows of
    `max_length`; `batch_size` then counts rows. `watch` chooses the adapter: the epoch with the
    best held-out loss, or with the best score of the task. `patience` epochs without a better one
    end the training. `max_steps` ends it after exactly so many steps. `eval_steps` evaluates after
    every so many steps too, for the curve. `target_modules` are names, or patterns (regular
    expressions) that match a module's whole path. `chat_template` is a file that replaces the
    base's template and goes with the adapter. `warm_start` is the folder of an adapter of this
    shape, whose weights the training starts from.
    """

    elsewhere: ClassVar[Mapping[str, str]] = ELSEWHERE

    method: Literal["lora", "rslora", "dora", "pissa", "qlora"] = "lora"
    base_format: Literal["nf4", "int8"] = "nf4"
    prompt: str | None = None
    train_on: Literal["last", "all"] = "last"
    chat_template: File | None = None
    warm_start: File | None = None
    rank: Count = Field(default=16, ge=1)
    alpha: float = Field(default=32, gt=0, allow_inf_nan=False)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: str | tuple[str, ...] = "all-linear"
    modules_to_save: tuple[str, ...] = ()
    epochs: Count = Field(default=1, ge=1)
    max_steps: Count | None = Field(default=None, ge=1)
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor", "lion", "sgd"] = (
        "adamw"
    )
    learning_rate: float = Field(default=2e-4, gt=0, allow_inf_nan=False)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: Share = 0.03
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    max_grad_norm: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    batch_size: Count = Field(default=16, ge=1)
    accumulation: Count = Field(default=1, ge=1)
    max_length: Count = Field(default=1024, ge=1)
    too_long: Literal["refuse", "drop", "truncate"] = "refuse"
    packing: bool = False
    gradient_checkpointing: bool = False
    limit: Count | None = Field(default=None, ge=1)
    eval_limit: Count = 128
    eval_steps: Count | None = Field(default=None, ge=1)
    watch: Literal["loss", "score"] = "loss"
    patience: Count | None = Field(default=None, ge=1)
    checkpoint_steps: Count | None = Field(default=None, ge=1)
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    trust_remote_code: bool = False
    seed: int = 0

    @model_validator(mode="after")
    def _fits_together(self) -> FinetuneConfig:
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"accumulation: {self.accumulation} parts do not divide "
                f"a batch of {self.batch_size} examples"
            )
        if self.base_format != "nf4" and self.method != "qlora":
            raise ValueError(f"base_format: {self.base_format} belongs to method: qlora")
        if self.method == "pissa" and self.modules_to_save:
            raise ValueError(
                "modules_to_save: a pissa adapter is turned into a plain one when it is saved, "
                "which holds no modules"
            )
        if self.method == "pissa" and self.warm_start:
            raise ValueError(
                "warm_start: pissa starts from the base's own singular vectors; "
                "leave one of them out"
            )
        if (self.patience or self.watch == "score" or self.eval_steps) and not self.eval_limit:
            raise ValueError(
                "eval_limit: patience, eval_steps and watch: score need held-out examples; "
                "write 1 or more"
            )
        if self.max_steps and self.epochs > 1:
            raise ValueError(
                f"max_steps: {self.max_steps} steps or {self.epochs} epochs; write one of them"
            )
        return self

    @field_validator("target_modules", mode="after")
    @classmethod
    def _patterns(cls, modules: str | tuple[str, ...]) -> str | tuple[str, ...]:
        entries = [modules] if isinstance(modules, str) else modules
        if not all(entries) or not entries:
            raise ValueError(
                "write all-linear, names of modules, or a pattern such as .*(q|v)_proj"
            )
        for entry in entries:
            try:
                re.compile(entry)
            except re.error as error:
                raise ValueError(f"{entry!r} is neither a name nor a pattern ({error})") from None
        return modules

    @property
    def entries(self) -> list[str]:
        """The names and patterns of `target_modules`; none for all linear layers."""
        if self.target_modules == "all-linear":
            return []
        return (
            [self.target_modules]
            if isinstance(self.target_modules, str)
            else list(self.target_modules)
        )

    @property
    def modules(self) -> str | list[str]:
        """`target_modules` as peft takes them: "all-linear", a list of names, or one pattern."""
        if not self.entries:
            return "all-linear"
        if not any(map(is_pattern, self.entries)):
            return self.entries
        return "|".join(
            f"({each if is_pattern(each) else f'(.*[.])?{re.escape(each)}'})"
            for each in self.entries
        )

    def of_variant(self, own: VariantFinetune | None) -> FinetuneConfig:
        """The section with a variant's own settings in place of its.

        Raises pydantic's ValidationError for settings that do not go together.
        """
        if own is None:
            return self
        settings = {key: getattr(own, key) for key in own.model_fields_set}
        return FinetuneConfig.model_validate({**dict(self), **settings})

    def examples_seen(self, examples: int) -> int:
        """How many examples the steps take, of so many, in all epochs.

        A packed row counts as one.
        """
        examples = min(examples, self.limit or examples)
        return self.max_steps * self.batch_size if self.max_steps else examples * self.epochs

    @property
    def length(self) -> str:
        """How long the training is, in words."""
        return f"{self.max_steps} steps" if self.max_steps else f"{self.epochs} epochs"

    @property
    def files(self) -> dict[str, Path]:
        """The files of the settings, by key. Their contents count, not their paths."""
        return {
            key: path for key in ("chat_template", "warm_start") if (path := getattr(self, key))
        }

    @property
    def recorded(self) -> dict[str, Any]:
        """The settings as JSON, with the names of files and no paths of this machine."""
        return self.model_dump(mode="json") | {key: path.name for key, path in self.files.items()}

    @property
    def saved_rank(self) -> int:
        """The rank of the adapter's file.

        PiSSA saves its last state less its first, which has twice the rank.
        """
        return 2 * self.rank if self.method == "pissa" else self.rank

    @property
    def why_only_merged(self) -> str | None:
        """Why no server takes the adapter beside its base; None where it does."""
        if self.method == "dora":
            return "vLLM does not serve DoRA adapters"
        if self.modules_to_save:
            modules = ", ".join(self.modules_to_save)
            return f"vLLM does not serve adapters that replace whole modules ({modules})"
        return None


class VariantFinetune(Differences, FinetuneConfig):
    """The key `finetune` of a variant: what its training has otherwise than the section.

    Its settings must fit together with those of the section, and not alone.
    """

    @model_validator(mode="after")
    def _fits_together(self) -> VariantFinetune:
        return self


def is_pattern(module: str) -> bool:
    """Whether an entry of `target_modules` is a regular expression.

    A name has only letters, digits, "_", "-" and ".".
    """
    return re.fullmatch(r"[\w.-]+", module) is None


def names_module(entry: str, path: str) -> bool:
    """Whether an entry of `target_modules` means the module at this path, as peft reads it."""
    if is_pattern(entry):
        return re.fullmatch(entry, path) is not None
    return path == entry or path.endswith(f".{entry}")
