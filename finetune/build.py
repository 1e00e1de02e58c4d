"""Builds the trainer: model, adapter, data and settings in place, nothing trained yet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.checks import can_evaluate
from finetune.config import FinetuneConfig
from finetune.data import TrainingData
from finetune.score import Scorer, TaskScore
from finetune.tokens import ExampleTokens
from finetune.warm_start import load_start
from foundation.errors import BadInput
from foundation.models.loading import load_causal_lm
from foundation.models.model import ModelRef
from foundation.processor import fast_dtype

if TYPE_CHECKING:
    import torch

EAGER_LENGTH = 256
"""Longest sequence (tokens) for which attention written out beats the fused CPU kernel.

The fused kernel's backward pass is slow.
"""

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
    data: TrainingData,
    out: Path,
    scorer: Scorer | None = None,
) -> Any:
    """The trainer. Raises BadInput where the processes of a launch do not divide the batch."""
    from transformers import set_seed
    from transformers.trainer_callback import PrinterCallback

    from finetune.trainer import CompletionTrainer, LeftPadded, Packed, can_share_prefix

    set_seed(config.seed)
    row_length = config.max_length if config.packing else None
    learned = _dataset(data.train, row_length)
    heldout = _dataset(data.heldout if can_evaluate(config) else [], row_length)
    arguments = _arguments(config, len(learned), len(heldout), out)
    rows = _rows_a_part(config, arguments.world_size)
    arguments.per_device_train_batch_size = arguments.per_device_eval_batch_size = rows
    if arguments.world_size > 1 and len(heldout):
        heldout = fill_up(heldout, rows * arguments.world_size)
    # Loaded after the arguments, which give each process a GPU of its own.
    model = _load(config, base, data.report.length_max)
    prefix = data.prefix if can_share_prefix(model) else []
    pad_token = _pad_token(data.tokenizer)
    trainer = CompletionTrainer(
        prefix=prefix,
        examples=data.train,
        score=_task_score(config, data, scorer),
        model=model,
        processing_class=data.tokenizer,
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


def _arguments(config: FinetuneConfig, rows: int, heldout_rows: int, out: Path) -> Any:
    """TRL's settings for a training on so many rows."""
    import torch
    from trl import SFTConfig

    steps_an_epoch = -(-rows // config.batch_size)
    steps = config.max_steps or steps_an_epoch * config.epochs
    if config.checkpoint_steps:
        saving = {"save_strategy": "steps", "save_steps": config.checkpoint_steps}
    else:
        saving = {"save_strategy": "epoch" if steps > steps_an_epoch else "no"}
    return SFTConfig(
        output_dir=str(out),
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        optim=_OPTIMIZERS[config.optimizer],
        gradient_accumulation_steps=config.accumulation,
        learning_rate=config.learning_rate,
        lr_scheduler_type=_SCHEDULES[config.schedule],
        # A warm-up begins with a step of rate 0: a training of one step would change nothing.
        warmup_steps=min(math.ceil(config.warmup * steps), steps - 1),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        seed=config.seed,
        bf16=choose_dtype(config.dtype) is torch.bfloat16,
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=config.gradient_checkpointing,
        ddp_find_unused_parameters=False,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        eval_strategy="epoch" if heldout_rows else "no",
        prediction_loss_only=True,
        save_total_limit=1,
        logging_steps=max(1, steps // _LOG_LINES),
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        **saving,
    )


def _pad_token(tokenizer: Any) -> int:
    token = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if token is None else token)


def _task_score(
    config: FinetuneConfig, data: TrainingData, scorer: Scorer | None
) -> TaskScore | None:
    if config.watch != "score" or scorer is None or not data.heldout:
        return None
    pad_token = _pad_token(data.tokenizer)
    return TaskScore(scorer, data.heldout, data.tokenizer, pad_token, config.batch_size)


def choose_dtype(name: str) -> torch.dtype:
    """The dtype that the base is computed in. LoRA weights are float32 in either.

    "auto" is bfloat16 where the processor or accelerator computes in it, else float32.
    """
    import torch

    if name != "auto":
        return torch.bfloat16 if name == "bfloat16" else torch.float32
    if torch.cuda.is_available():
        is_fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        is_fast = fast_dtype() == "bfloat16"
    return torch.bfloat16 if is_fast else torch.float32


def _load(config: FinetuneConfig, base: ModelRef, longest: int) -> Any:
    import torch

    on_cpu = not torch.cuda.is_available()
    dtype = choose_dtype(config.dtype)
    written_out = on_cpu and not config.packing and longest <= EAGER_LENGTH
    return load_causal_lm(
        base.path,
        # PiSSA takes its start out of the weights. In bfloat16 the rest would be rounded,
        # and no longer fit the base.
        dtype=torch.float32 if config.method == "pissa" else dtype,
        attn_implementation="eager" if written_out else "sdpa",
        trust_remote_code=config.trust_remote_code,
        **(_quantized_base(config, dtype) if config.method == "qlora" else {}),
    )


def _quantized_base(config: FinetuneConfig, dtype: torch.dtype) -> dict[str, Any]:
    """The options that load a base in the number format of QLoRA."""
    import torch
    from transformers import BitsAndBytesConfig

    if config.base_format == "nf4":
        quantization = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
    else:
        quantization = BitsAndBytesConfig(load_in_8bit=True)
    device = torch.cuda.current_device() if torch.cuda.is_available() else "cpu"
    return {"quantization_config": quantization, "device_map": {"": device}}


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
            f"finetune.batch_size: {config.batch_size} examples in {config.accumulation} parts "
            f"do not fall evenly on {processes} processes; "
            f"write a multiple of {config.accumulation * processes}"
        )
    return rows


def _dataset(examples: Sequence[ExampleTokens], row_length: int | None) -> Any:
    """A row for each example, or with `row_length` rows that are filled with examples.

    The column `example` holds the index into `examples`, at every token.
    """
    from datasets import Dataset
    from trl import pack_dataset

    from finetune.trainer import IGNORED

    data = Dataset.from_dict(
        {
            "input_ids": [tokens.prompt + tokens.completion for tokens in examples],
            "labels": [tokens.labels(IGNORED) for tokens in examples],
            "example": [[i] * len(tokens) for i, tokens in enumerate(examples)],
        }
    )
    if row_length and examples:
        data = pack_dataset(data, row_length)
    return data


def fill_up(data: Any, part: int) -> Any:
    """Add rows in which nothing is learned, up to a multiple of `part`.

    accelerate would repeat examples instead, and count them twice.
    """
    from datasets import concatenate_datasets

    from finetune.trainer import IGNORED

    empty = data.select([0] * (-len(data) % part)).map(
        lambda row: {"labels": [IGNORED] * len(row["labels"])}
    )
    return concatenate_datasets([data, empty])
