"""`tunedyno.json` and the model card beside an adapter's weights: what the adapter depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from finetune import card
from finetune.checks import own_template
from finetune.config import FinetuneConfig
from finetune.data import TrainingData
from finetune.data_report import DataReport
from finetune.job import TrainingJob
from finetune.tokens import ExampleTokens
from foundation.data.examples import Example
from foundation.files.atomic_write import write_whole
from foundation.files.content_hash import file_sha256
from foundation.models import adapter_record, template_file
from foundation.models.lora import WEIGHTS


def training_recipe(job: TrainingJob, data: TrainingData) -> dict[str, Any]:
    """All that the adapter depends on, as `tunedyno.json` holds it; files by their contents."""
    base = job.base
    return {
        "base": {"id": base.id, "revision": base.revision, "fingerprint": base.fingerprint()},
        "data": {
            "train_sha256": _sha256(job.train),
            "heldout_sha256": _sha256(job.heldout),
            "tokens_sha256": _tokens_sha256([*data.train, *data.heldout]),
            "examples": len(data.train),
        },
        "config": job.config.recorded,
        "files": _files(job.config),
        "versions": {
            name: version(name) for name in ("tunedyno", "torch", "transformers", "peft", "trl")
        },
    }


def write_records(
    epochs: Sequence[Path], record: Mapping[str, Any], config: FinetuneConfig, report: DataReport
) -> None:
    """Write the record, the model card and an own chat template beside each epoch's weights."""
    template = own_template(config)
    for number, folder in enumerate(epochs, start=1):
        of_epoch = {"schema_version": 1, "epoch": number, **record}
        write_whole(folder / adapter_record.FILE, json.dumps(of_epoch, indent=2) + "\n")
        write_whole(folder / "README.md", card.text(of_epoch, report))
        if template is not None:
            write_whole(folder / template_file.FILE, template)


def _files(config: FinetuneConfig) -> dict[str, str]:
    files = {}
    template = own_template(config)
    if template is not None:
        files["chat_template"] = hashlib.sha256(template.encode()).hexdigest()
    if config.warm_start:
        files["warm_start"] = file_sha256(config.warm_start / WEIGHTS)
    return files


def _sha256(examples: Sequence[Example]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        more = [[*example.tools], {**example.answer_keys}, {**example.weights}]
        content = [list(example.messages), example.completion, *(more if any(more) else [])]
        digest.update(json.dumps(content, sort_keys=True).encode())
    return digest.hexdigest()


def _tokens_sha256(examples: Sequence[ExampleTokens]) -> str:
    """The hash of what the model sees: prompt style, chat template and tokenizer change it."""
    digest = hashlib.sha256()
    for example in examples:
        content = {name: value for name, value in vars(example).items() if name != "where"}
        digest.update(json.dumps(content).encode())
    return digest.hexdigest()
