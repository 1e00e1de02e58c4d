"""Train a LoRA adapter, one kept per epoch."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.config import FinetuneConfig
from finetune.data import Prepared, Tokens, prepare
from foundation.examples import Example, PromptStyle
from foundation.model import ModelRef
from foundation.progress import Progress
from foundation.quiet import quiet_libraries

if TYPE_CHECKING:
    import torch

EAGER_LENGTH = 256
"""Longest sequence (tokens) for which attention written out beats the fused CPU kernel and its slow backward pass."""

_LOG_LINES = 200
_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "tunedyno.json")


@dataclass(frozen=True)
class TrainingResult:
    """`adapter` is the last epoch's, `epochs` each one's folder. `seconds` and `tokens_per_second` are of training alone."""

    adapter: Path
    epochs: list[Path]
    seconds: float
    tokens_per_second: float
    heldout_loss: list[float]


def train(
    config: FinetuneConfig,
    base: ModelRef,
    train: Sequence[Example],
    heldout: Sequence[Example],
    style: PromptStyle | None,
    out: Path,
    progress: Progress,
) -> TrainingResult:
    """Train into `out`: the last epoch's adapter, `epoch-N/` each epoch's, `training.jsonl`, `tunedyno.json`.

    Held-out examples are only ever evaluated on. Raises BadInput as `check` does; SystemFailed where the loss is no number.
    """
    quiet_libraries()
    prepared = prepare(config, base, train, heldout, style)
    out.mkdir(parents=True, exist_ok=True)
    trainer = build_trainer(config, base, prepared, out)
    about = {
        "base": {"id": base.id, "revision": base.revision, "fingerprint": base.fingerprint()},
        "data": {"train_sha256": _sha256(train), "heldout_sha256": _sha256(heldout), "examples": len(prepared.train)},
        "config": config.model_dump(mode="json"),
        "versions": {name: version(name) for name in ("tunedyno", "torch", "transformers", "peft", "trl")},
    }

    from peft.helpers import disable_input_dtype_casting

    from finetune.log import TrainingLog

    epochs: list[Path] = []

    def save_epoch(number: int) -> None:
        epochs.append(out / f"epoch-{number}")
        _save_adapter(trainer.model, base, epochs[-1])

    log = TrainingLog(out / "training.jsonl", progress, lambda: trainer.tokens_seen, save_epoch)
    trainer.add_callback(log)
    progress.log(f"finetune: {prepared.report}")
    # PEFT widens every input to its float32 weights, and autocast narrows it back: two copies for nothing.
    with disable_input_dtype_casting(trainer.model, active=trainer.args.bf16):
        trainer.train()

    measured = {
        "seconds": round(log.seconds, 3),
        "tokens": trainer.tokens_seen,
        "tokens_per_second": round(trainer.tokens_seen / log.seconds, 1),
        "heldout_loss": log.heldout_loss,
    }
    for number, folder in enumerate(epochs, start=1):
        text = json.dumps({"schema_version": 1, "epoch": number, **about, **measured}, indent=2)
        (folder / "tunedyno.json").write_text(text + "\n")
    for name in _ADAPTER_FILES:
        shutil.copyfile(epochs[-1] / name, out / name)
    return TrainingResult(out, epochs, log.seconds, trainer.tokens_seen / log.seconds, log.heldout_loss)


def build_trainer(config: FinetuneConfig, base: ModelRef, prepared: Prepared, out: Path) -> Any:
    """The trainer with model, data and settings in place; nothing trained yet."""
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, set_seed
    from transformers.trainer_callback import PrinterCallback
    from trl import SFTConfig

    from finetune.trainer import CompletionTrainer, LeftPadded, can_share_prefix

    dtype = choose_dtype(config.dtype)
    on_cpu = not torch.cuda.is_available()
    attention = "eager" if on_cpu and prepared.report.length_max <= EAGER_LENGTH else "sdpa"
    set_seed(config.seed)
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=dtype, attn_implementation=attention, use_safetensors=True)
    prefix = prepared.prefix if can_share_prefix(model) else []
    tokenizer = prepared.tokenizer
    pad_token = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    rows = config.batch_size // config.accumulation
    steps = -(-len(prepared.train) // config.batch_size) * config.epochs
    trainer = CompletionTrainer(
        prefix=prefix,
        examples=prepared.train,
        model=model,
        processing_class=tokenizer,
        data_collator=LeftPadded(pad_token, len(prefix)),
        train_dataset=_dataset(prepared.train),
        eval_dataset=_dataset(prepared.heldout) if prepared.heldout else None,
        peft_config=LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules=config.modules,
            task_type="CAUSAL_LM",
        ),
        args=SFTConfig(
            output_dir=str(out),
            num_train_epochs=config.epochs,
            per_device_train_batch_size=rows,
            per_device_eval_batch_size=rows,
            gradient_accumulation_steps=config.accumulation,
            train_sampling_strategy="group_by_length",
            learning_rate=config.learning_rate,
            lr_scheduler_type=_SCHEDULES[config.schedule],
            warmup_steps=config.warmup if config.warmup < 1 else steps,
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
            seed=config.seed,
            bf16=dtype is torch.bfloat16,
            use_cpu=on_cpu,
            gradient_checkpointing=False,
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=False,
            eval_strategy="epoch" if prepared.heldout else "no",
            prediction_loss_only=True,
            save_strategy="no",
            logging_steps=max(1, steps // _LOG_LINES),
            logging_nan_inf_filter=False,
            report_to="none",
            disable_tqdm=True,
        ),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def choose_dtype(asked: str) -> torch.dtype:
    """`auto` is bfloat16 where the processor computes in it, else float32. LoRA weights are float32 in either."""
    import torch

    if asked != "auto":
        return torch.bfloat16 if asked == "bfloat16" else torch.float32
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    able = torch.cpu.get_capabilities()
    return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16") else torch.float32


def _dataset(tokens: Sequence[Tokens]) -> Any:
    from datasets import Dataset

    from finetune.trainer import IGNORED

    return Dataset.from_dict(
        {
            "input_ids": [t.prompt + t.completion for t in tokens],
            "labels": [[IGNORED] * len(t.prompt) + t.completion for t in tokens],
            "length": [len(t) for t in tokens],
            "example": list(range(len(tokens))),
        }
    )


def _save_adapter(model: Any, base: ModelRef, folder: Path) -> None:
    """PEFT's files, with the base by its name in the world rather than by this machine's path."""
    peft_config = model.peft_config["default"]
    peft_config.base_model_name_or_path = base.id
    peft_config.revision = base.revision
    # No look-up of the base on a hub to learn whether embeddings were resized: they never are.
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # a form that PEFT leaves to be filled in


def _sha256(examples: Sequence[Example]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps([list(example.messages), example.completion], sort_keys=True).encode())
    return digest.hexdigest()
