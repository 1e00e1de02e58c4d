"""The trainer with model, adapter, data and settings in place; nothing trained yet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.checks import can_evaluate
from finetune.config import FinetuneConfig
from finetune.data import Prepared
from finetune.score import Scorer, TaskScore
from finetune.tokens import Tokens
from finetune.warm_start import load_start
from foundation.errors import BadInput
from foundation.models.loading import load_causal_lm
from foundation.models.model import ModelRef
from foundation.processor import fast_dtype

if TYPE_CHECKING:
    import torch

EAGER_LENGTH = 256
"""Longest sequence (tokens) for which attention written out beats the fused CPU kernel and its slow backward pass."""

_LOG_LINES = 200
_OPTIMIZERS = {
    "adamw": "adamw_torch_fused",
    "adamw_8bit": "adamw_bnb_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
    "lion": "lion_32bit",
    "sgd": "sgd",
}
_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


def build_trainer(
    config: FinetuneConfig,
    base: ModelRef,
    prepared: Prepared,
    out: Path,
    scorer: Scorer | None = None,
) -> Any:
    """Raises BadInput where the processes of a launch do not divide the batch."""
    import torch
    from transformers import set_seed
    from transformers.trainer_callback import PrinterCallback
    from trl import SFTConfig

    from finetune.trainer import CompletionTrainer, LeftPadded, Packed, can_share_prefix

    dtype = choose_dtype(config.dtype)
    on_cpu = not torch.cuda.is_available()
    set_seed(config.seed)
    tokenizer = prepared.tokenizer
    pad_token = (
        tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    )
    row_length = config.max_length if config.packing else None
    learned = _dataset(prepared.train, row_length)
    heldout = _dataset(prepared.heldout if can_evaluate(config) else [], row_length)
    an_epoch = -(-len(learned) // config.batch_size)
    steps = config.max_steps or an_epoch * config.epochs
    saving = (
        {"save_strategy": "steps", "save_steps": config.checkpoint_steps}
        if config.checkpoint_steps
        else {"save_strategy": "epoch" if steps > an_epoch else "no"}
    )
    arguments = SFTConfig(
        output_dir=str(out),
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        optim=_OPTIMIZERS[config.optimizer],
        gradient_accumulation_steps=config.accumulation,
        learning_rate=config.learning_rate,
        lr_scheduler_type=_SCHEDULES[config.schedule],
        # The first step of a warm-up is one of 0: a training of a single step would change nothing.
        warmup_steps=min(math.ceil(config.warmup * steps), steps - 1),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        seed=config.seed,
        bf16=dtype is torch.bfloat16,
        use_cpu=on_cpu,
        gradient_checkpointing=config.gradient_checkpointing,
        ddp_find_unused_parameters=False,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        eval_strategy="epoch" if len(heldout) else "no",
        prediction_loss_only=True,
        save_total_limit=1,
        logging_steps=max(1, steps // _LOG_LINES),
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        **saving,
    )
    rows = _rows_a_part(config, arguments.world_size)
    arguments.per_device_train_batch_size = arguments.per_device_eval_batch_size = rows
    if arguments.world_size > 1 and len(heldout):
        heldout = fill_up(heldout, rows * arguments.world_size)
    # Behind the arguments, which give each process a GPU of its own.
    model = _load(config, base, dtype, prepared.report.length_max)
    prefix = prepared.prefix if can_share_prefix(model) else []
    score = None
    if config.watch == "score" and scorer is not None and prepared.heldout:
        score = TaskScore(scorer, prepared.heldout, tokenizer, pad_token, config.batch_size)
    trainer = CompletionTrainer(
        prefix=prefix,
        examples=prepared.train,
        score=score,
        model=model,
        processing_class=tokenizer,
        data_collator=Packed(pad_token) if config.packing else LeftPadded(pad_token, len(prefix)),
        train_dataset=learned,
        eval_dataset=heldout if len(heldout) else None,
        peft_config=_lora(config),
        args=arguments,
    )
    trainer.remove_callback(PrinterCallback)
    if config.warm_start:
        load_start(trainer.model, config.warm_start)
    return trainer


def choose_dtype(asked: str) -> torch.dtype:
    """`auto` is bfloat16 where the processor or accelerator computes in it, else float32. LoRA weights are float32 in either."""
    import torch

    if asked != "auto":
        return torch.bfloat16 if asked == "bfloat16" else torch.float32
    if torch.cuda.is_available():
        return (
            torch.bfloat16
            if torch.cuda.is_bf16_supported(including_emulation=False)
            else torch.float32
        )
    return torch.bfloat16 if fast_dtype() == "bfloat16" else torch.float32


def _load(config: FinetuneConfig, base: ModelRef, dtype: torch.dtype, longest: int) -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    on_cpu = not torch.cuda.is_available()
    options: dict[str, Any] = {}
    if config.method == "qlora":
        options["quantization_config"] = (
            BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
            )
            if config.base_format == "nf4"
            else BitsAndBytesConfig(load_in_8bit=True)
        )
        options["device_map"] = {"": "cpu" if on_cpu else torch.cuda.current_device()}
    return load_causal_lm(
        base.path,
        # PiSSA takes its start out of the weights: in bfloat16 the rest would be rounded, and no longer fit the base.
        dtype=torch.float32 if config.method == "pissa" else dtype,
        attn_implementation="eager"
        if on_cpu and not config.packing and longest <= EAGER_LENGTH
        else "sdpa",
        trust_remote_code=config.trust_remote_code,
        **options,
    )


def _lora(config: FinetuneConfig) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.modules,
        modules_to_save=list(config.modules_to_save) or None,
        use_rslora=config.method == "rslora",
        use_dora=config.method == "dora",
        init_lora_weights="pissa" if config.method == "pissa" else True,
        task_type="CAUSAL_LM",
    )


def _rows_a_part(config: FinetuneConfig, processes: int) -> int:
    rows, rest = divmod(config.batch_size, config.accumulation * processes)
    if rest:
        raise BadInput(
            f"finetune.batch_size: {config.batch_size} examples in {config.accumulation} parts do not fall evenly on {processes} "
            f"processes; write a multiple of {config.accumulation * processes}"
        )
    return rows


def _dataset(tokens: Sequence[Tokens], row_length: int | None) -> Any:
    """Examples, or with `row_length` rows that are filled with them. `example` is the index into `tokens`, at every token."""
    from datasets import Dataset
    from trl import pack_dataset

    from finetune.trainer import IGNORED

    data = Dataset.from_dict(
        {
            "input_ids": [t.prompt + t.completion for t in tokens],
            "labels": [t.labels(IGNORED) for t in tokens],
            "example": [[i] * len(t) for i, t in enumerate(tokens)],
        }
    )
    if row_length and tokens:
        data = pack_dataset(data, row_length)
    return data


def fill_up(data: Any, part: int) -> Any:
    """Up to a multiple of `part`, with rows in which nothing is learned: accelerate would repeat examples, and count them so."""
    from datasets import concatenate_datasets

    from finetune.trainer import IGNORED

    empty = data.select([0] * (-len(data) % part)).map(
        lambda row: {"labels": [IGNORED] * len(row["labels"])}
    )
    return concatenate_datasets([data, empty])
