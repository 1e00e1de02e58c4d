"""Train a LoRA adapter, one kept per epoch."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from finetune import card, report
from finetune.config import FinetuneConfig
from finetune.data import can_evaluate, prepare
from finetune.score import Scorer
from foundation.errors import BadInput
from foundation.examples import Example, PromptStyle
from foundation.model import ModelRef
from foundation.progress import Progress
from foundation.quiet import quiet_libraries
from foundation.whole_file import write_whole

_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "tunedyno.json", "README.md")
_START = "start"
"""The folder of a PiSSA adapter as it was before training, which is subtracted from every one that is saved."""


@dataclass(frozen=True)
class TrainingResult:
    """`adapter` is that of the `best` epoch (from 1), `epochs` each one's folder.

    `seconds` and `tokens_per_second` are of training alone; held-out losses and scores one an epoch, none where not measured.
    """

    adapter: Path
    epochs: list[Path]
    best: int
    seconds: float
    tokens_per_second: float
    heldout_loss: list[float]
    heldout_score: list[float]


def train(
    config: FinetuneConfig,
    base: ModelRef,
    train: Sequence[Example],
    heldout: Sequence[Example],
    style: PromptStyle | None,
    out: Path,
    progress: Progress,
    scorer: Scorer | None = None,
) -> TrainingResult:
    """Train into `out`: the best epoch's adapter, `epoch-N/` each epoch's, `training.jsonl`, `data-report.md`, `tunedyno.json`.

    Goes on from the last whole checkpoint where `out` holds one. Held-out examples are only ever evaluated on. Of several
    processes (accelerate) each calls this, and the first one writes. Raises BadInput as `check` does; SystemFailed where the loss
    is no number.
    """
    quiet_libraries()
    prepared = prepare(config, base, train, heldout, style)
    if (config.watch == "score" or config.patience) and not prepared.heldout:
        raise BadInput("finetune: patience and watch: score need held-out examples; write data.eval")
    if config.watch == "score" and scorer is None:
        raise BadInput("finetune.watch: score needs a scorer; write quality.scorer")
    out.mkdir(parents=True, exist_ok=True)

    from finetune.build import build_trainer
    from finetune.log import TrainingLog, last_checkpoint

    trainer = build_trainer(config, base, prepared, out, scorer)
    about = {
        "base": {"id": base.id, "revision": base.revision, "fingerprint": base.fingerprint()},
        "data": {"train_sha256": _sha256(train), "heldout_sha256": _sha256(heldout), "examples": len(prepared.train)},
        "config": config.model_dump(mode="json"),
        "versions": {name: version(name) for name in ("tunedyno", "torch", "transformers", "peft", "trl")},
    }
    first = trainer.is_world_process_zero()
    checkpoint = last_checkpoint(out)
    if first:
        write_whole(out / report.FILE, prepared.report.text() + "\n")
        if config.method == "pissa":
            trainer.model.save_pretrained(out / _START, save_embedding_layers=False)

    from peft.helpers import disable_input_dtype_casting

    log = TrainingLog(
        out / "training.jsonl",
        progress,
        trainer.all_tokens_seen,
        lambda number: _save_adapter(trainer.model, base, out / f"epoch-{number}"),
        config.watch,
        config.patience,
    )
    trainer.add_callback(log)
    progress.log(f"finetune: {prepared.report}")
    if not can_evaluate(config):
        progress.log("finetune: an NF4 base can't be evaluated while it is trained on a CPU, so there is no held-out loss")
    if checkpoint is not None:
        seen = log.go_on_from(checkpoint, write=first)
        trainer.tokens_seen = seen if first else 0  # the sum over the processes counts
        progress.log(f"finetune: going on from step {checkpoint.name.rpartition('-')[2]}")
    # PEFT widens every input to its float32 weights, and autocast narrows it back: two copies for nothing.
    with disable_input_dtype_casting(trainer.model, active=trainer.args.bf16 and config.method != "qlora"):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    tokens = trainer.all_tokens_seen()
    if first:
        for folder in (*out.glob("checkpoint-*"), out / _START):
            shutil.rmtree(folder, ignore_errors=True)
    measured = {
        "seconds": round(log.seconds, 3),
        "tokens": tokens,
        "tokens_per_second": round(tokens / log.seconds, 1),
        "heldout_loss": log.heldout["loss"],
        "heldout_score": log.heldout["score"],
        "best_epoch": log.best,
    }
    epochs = [out / f"epoch-{number}" for number in range(1, log.epochs + 1)]
    if first:
        for number, folder in enumerate(epochs, start=1):
            record = {"schema_version": 1, "epoch": number, **about, **measured}
            write_whole(folder / "tunedyno.json", json.dumps(record, indent=2) + "\n")
            write_whole(folder / "README.md", card.text(record, prepared.report))
        for name in _ADAPTER_FILES:
            shutil.copyfile(epochs[log.best - 1] / name, out / name)
    return TrainingResult(
        out, epochs, log.best, log.seconds, tokens / log.seconds, log.heldout["loss"], log.heldout["score"]
    )  # fmt: skip


def _save_adapter(model: Any, base: ModelRef, folder: Path) -> None:
    """PEFT's files, with the base by its name in the world rather than by this machine's path."""
    peft_config = model.peft_config["default"]
    recorded = peft_config.base_model_name_or_path, peft_config.revision
    peft_config.base_model_name_or_path, peft_config.revision = base.id, base.revision
    start = folder.parent / _START
    # No look-up of the base on a hub to learn whether embeddings were resized: they never are.
    model.save_pretrained(
        folder,
        save_embedding_layers=False,
        path_initial_model_for_weight_conversion=str(start) if start.is_dir() else None,
    )
    peft_config.base_model_name_or_path, peft_config.revision = recorded


def _sha256(examples: Sequence[Example]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        more = [[*example.tools], {**example.answer_keys}, {**example.weights}]
        said = [list(example.messages), example.completion, *(more if any(more) else [])]
        digest.update(json.dumps(said, sort_keys=True).encode())
    return digest.hexdigest()
