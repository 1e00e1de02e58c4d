"""The folders that a training fills: an adapter for each epoch, and a copy of the best one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from foundation.models import adapter_record, template_file
from foundation.models.lora import WEIGHTS
from foundation.models.model import ModelRef

_ADAPTER_FILES = (
    "adapter_config.json",
    WEIGHTS,
    adapter_record.FILE,
    "README.md",
    template_file.FILE,
)
_START = "start"
"""The folder of a PiSSA adapter before training, which is subtracted from every saved one."""


def epoch_folder(out: Path, number: int) -> Path:
    """The folder of an epoch's adapter, counted from 1."""
    return out / f"epoch-{number}"


def save_start(trainer: Any, out: Path) -> None:
    """Save the adapter as it is before training."""
    trainer.model.save_pretrained(out / _START, save_embedding_layers=False)


def save_adapter(trainer: Any, base: ModelRef, folder: Path) -> None:
    """Save PEFT's files, with the base's public name in place of this machine's path.

    Raises SystemFailed where a weight is no number.
    """
    from finetune.adapter_changes import check_finite

    model = trainer.model
    check_finite(model, trainer.state.global_step)
    peft_config = model.peft_config["default"]
    loaded_from = peft_config.base_model_name_or_path, peft_config.revision
    peft_config.base_model_name_or_path, peft_config.revision = base.id, base.revision
    start = folder.parent / _START
    # Else PEFT looks the base up on a hub to learn whether embeddings were resized: they never are.
    model.save_pretrained(
        folder,
        save_embedding_layers=False,
        path_initial_model_for_weight_conversion=str(start) if start.is_dir() else None,
    )
    peft_config.base_model_name_or_path, peft_config.revision = loaded_from


def clear(out: Path) -> None:
    """Remove what an earlier training with other data or settings left."""
    _remove(*out.glob("checkpoint-*"), *out.glob("epoch-*"), out / _START)


def publish(epoch: Path, out: Path) -> None:
    """Copy the best epoch's adapter to `out`, and remove what only the training needed."""
    for name in _ADAPTER_FILES:
        if (file := epoch / name).is_file():
            shutil.copyfile(file, out / name)
    _remove(*out.glob("checkpoint-*"), out / _START)


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
