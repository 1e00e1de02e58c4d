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

from finetune import card, data_report
from finetune.checks import can_evaluate, own_template
from finetune.config import FinetuneConfig
from finetune.data import Prepared, prepare
from finetune.score import Scorer
from finetune.tokens import Tokens
from foundation.data.examples import Example, PromptStyle
from foundation.errors import BadInput, SystemFailed
from foundation.files.atomic_write import write_whole
from foundation.files.content_hash import file_sha256
from foundation.models import adapter_record, template_file
from foundation.models.lora import WEIGHTS
from foundation.models.model import ModelRef
from foundation.progress import Progress
from foundation.quiet_libraries import quiet_libraries

if TYPE_CHECKING:
    from finetune.adapter_changes import LoraOutputs

_ADAPTER_FILES = (
    "adapter_config.json",
    WEIGHTS,
    adapter_record.FILE,
    "README.md",
    template_file.FILE,
)
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
    """Train into `out`: the best epoch's adapter, `epoch-N/` each epoch's, `training.jsonl`,
    `data-report.md`, `tunedyno.json`.

    Goes on from the last whole checkpoint in `out` that was made by the same data and settings.
    Held-out examples are only ever evaluated on. Of several processes (accelerate) each calls this,
    and the first one writes. Raises BadInput as `check` does; SystemFailed where a loss or a weight
    is no number, or the training changed nothing.
    """
    quiet_libraries()
    prepared = prepare(config, base, train, heldout, style)
    if (config.watch == "score" or config.patience or config.eval_steps) and not prepared.heldout:
        raise BadInput(
            "finetune: patience, eval_steps and watch: score need held-out examples; write data.eval"
        )
    if config.watch == "score" and scorer is None:
        raise BadInput("finetune.watch: score needs a scorer; write quality.scorer")
    out.mkdir(parents=True, exist_ok=True)

    from finetune.adapter_changes import LoraOutputs
    from finetune.build import build_trainer
    from finetune.log import LOG_FILE, TrainingLog, last_checkpoint

    about = _about(config, base, train, heldout, prepared)
    checkpoint, why_not = last_checkpoint(out, about)
    trainer = build_trainer(config, base, prepared, out, scorer)
    first = trainer.is_world_process_zero()
    if first:
        if checkpoint is None:
            _clear(out)
        write_whole(out / data_report.FILE, prepared.report.text() + "\n")
        if config.method == "pissa":
            trainer.model.save_pretrained(out / _START, save_embedding_layers=False)

    from peft.helpers import disable_input_dtype_casting

    log = TrainingLog(
        out / LOG_FILE,
        progress,
        trainer.all_tokens_seen,
        lambda number: _save_adapter(trainer, base, out / f"epoch-{number}"),
        config,
        about,
    )
    trainer.add_callback(log)
    progress.log(f"finetune: {prepared.report}")
    if not can_evaluate(config):
        progress.log(
            "finetune: an NF4 base can't be evaluated while it is trained on a CPU, so there is no held-out loss"
        )
    if checkpoint is not None:
        seen = log.go_on_from(checkpoint, write=first)
        trainer.tokens_seen = seen if first else 0  # the sum over the processes counts
        progress.log(f"finetune: going on from step {checkpoint.name.rpartition('-')[2]}")
    elif why_not:
        progress.log(f"finetune: {why_not}, so the training begins again")
    before = LoraOutputs.of(trainer.model)
    # PEFT widens every input to its float32 weights, and autocast narrows it back: two copies for nothing.
    with disable_input_dtype_casting(
        trainer.model, active=trainer.args.bf16 and config.method != "qlora"
    ):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    tokens = trainer.all_tokens_seen()
    measured = {
        "steps": trainer.state.global_step,
        "epochs": round(trainer.state.epoch, 4),
        "untouched_layers": _untouched(trainer, before, config, progress),
        "seconds": round(log.seconds, 3),
        "tokens": tokens,
        "tokens_per_second": round(tokens / log.seconds, 1),
        "heldout_loss": log.heldout["loss"],
        "heldout_score": log.heldout["score"],
        "best_epoch": log.best,
    }
    epochs = [out / f"epoch-{number}" for number in range(1, log.epochs + 1)]
    if first:
        _describe(epochs, about | measured, config, prepared)
        for name in _ADAPTER_FILES:
            if (file := epochs[log.best - 1] / name).is_file():
                shutil.copyfile(file, out / name)
        for folder in (*out.glob("checkpoint-*"), out / _START):
            shutil.rmtree(folder, ignore_errors=True)
    return TrainingResult(
        out, epochs, log.best, log.seconds, tokens / log.seconds, log.heldout["loss"], log.heldout["score"]
    )  # fmt: skip


def _untouched(
    trainer: Any, before: LoraOutputs, config: FinetuneConfig, progress: Progress
) -> list[str]:
    """The adapted layers that learned nothing. Raises SystemFailed where that is all of them."""
    layers = before.untouched(trainer.model)
    if before.all_of(layers):
        raise SystemFailed(
            f"finetune: {trainer.state.global_step} steps changed no weight of the adapter, so it is the base model; "
            f"raise finetune.learning_rate ({config.learning_rate:g}), or look at the examples"
        )
    if layers:
        some = ", ".join(layers[:3]) + (", ..." if len(layers) > 3 else "")
        progress.log(
            f"finetune: {len(layers)} of {len(before)} adapted layers learned nothing ({some})"
        )
    return layers


def _about(
    config: FinetuneConfig,
    base: ModelRef,
    train: Sequence[Example],
    heldout: Sequence[Example],
    prepared: Prepared,
) -> dict[str, Any]:
    """All that the adapter depends on, as `tunedyno.json` holds it. Files are known by what they hold."""
    template = own_template(config)
    files = (
        {} if template is None else {"chat_template": hashlib.sha256(template.encode()).hexdigest()}
    )
    if config.warm_start:
        files["warm_start"] = file_sha256(config.warm_start / WEIGHTS)
    return {
        "base": {"id": base.id, "revision": base.revision, "fingerprint": base.fingerprint()},
        "data": {
            "train_sha256": _sha256(train),
            "heldout_sha256": _sha256(heldout),
            "tokens_sha256": _tokens_sha256([*prepared.train, *prepared.heldout]),
            "examples": len(prepared.train),
        },
        "config": config.recorded,
        "files": files,
        "versions": {
            name: version(name) for name in ("tunedyno", "torch", "transformers", "peft", "trl")
        },
    }


def _describe(
    epochs: Sequence[Path], record: dict[str, Any], config: FinetuneConfig, prepared: Prepared
) -> None:
    """Put beside each epoch's weights what they were made of, and the chat template where it is their own."""
    template = own_template(config)
    for number, folder in enumerate(epochs, start=1):
        own = {"schema_version": 1, "epoch": number, **record}
        write_whole(folder / adapter_record.FILE, json.dumps(own, indent=2) + "\n")
        write_whole(folder / "README.md", card.text(own, prepared.report))
        if template is not None:
            write_whole(folder / template_file.FILE, template)


def _clear(out: Path) -> None:
    """Take away what an earlier training of other data or settings left."""
    for folder in (*out.glob("checkpoint-*"), *out.glob("epoch-*"), out / _START):
        shutil.rmtree(folder, ignore_errors=True)


def _save_adapter(trainer: Any, base: ModelRef, folder: Path) -> None:
    """PEFT's files, with the base by its name in the world rather than by this machine's path."""
    from finetune.adapter_changes import check_finite

    model = trainer.model
    check_finite(model, trainer.state.global_step)
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


def _tokens_sha256(examples: Sequence[Tokens]) -> str:
    """Of what the model sees: prompt style, chat template and tokenizer are in it."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(
            json.dumps(
                {name: value for name, value in vars(example).items() if name != "where"}
            ).encode()
        )
    return digest.hexdigest()
