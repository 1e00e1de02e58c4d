"""Trains a LoRA adapter, and keeps one for each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune import data_report
from finetune.adapter_files import clear, epoch_folder, publish, save_adapter, save_start
from finetune.checks import can_evaluate
from finetune.config import FinetuneConfig
from finetune.data import TrainingData, prepare
from finetune.job import TrainingJob
from finetune.record import training_recipe, write_records
from finetune.score import Scorer
from foundation.errors import BadInput, SystemFailed
from foundation.files.atomic_write import write_whole
from foundation.progress import Progress
from foundation.quiet_libraries import quiet_libraries

if TYPE_CHECKING:
    from finetune.adapter_changes import LoraOutputs
    from finetune.log import TrainingLog


@dataclass(frozen=True)
class TrainingResult:
    """`adapter` is that of the `best` epoch (from 1), `epochs` the folder of each one.

    `seconds` and `tokens_per_second` are of training alone. Held-out losses and scores are one an
    epoch, none where they were not measured.
    """

    adapter: Path
    epochs: list[Path]
    best: int
    seconds: float
    tokens_per_second: float
    heldout_loss: list[float]
    heldout_score: list[float]


def train(
    job: TrainingJob, out: Path, progress: Progress, scorer: Scorer | None = None
) -> TrainingResult:
    """Train into `out`: the best epoch's adapter, `epoch-N/`, `training.jsonl` and other files.

    These are `data-report.md` and `tunedyno.json`. Goes on from the last whole checkpoint in `out`
    with the same data and settings. Of several processes (accelerate) each calls this, the first
    one writes, and they go on only from a checkpoint that all machines have. Raises BadInput as
    `check` does; SystemFailed where a loss or a weight is no number, or the training changed
    nothing.
    """
    quiet_libraries()
    data = prepare(job)
    _check_watching(job.config, data, scorer)
    out.mkdir(parents=True, exist_ok=True)

    from finetune.adapter_changes import LoraOutputs
    from finetune.build import build_trainer
    from finetune.log import last_checkpoint

    recipe = training_recipe(job, data)
    checkpoint, why_not = last_checkpoint(out, recipe)
    trainer = build_trainer(job.config, job.base, data, out, scorer)
    if not _is_everywhere(checkpoint):
        checkpoint, why_not = None, "not every machine has the same checkpoint"
    if trainer.is_world_process_zero():
        if checkpoint is None:
            clear(out)
        write_whole(out / data_report.FILE, data.report.text() + "\n")
        if job.config.method == "pissa":
            save_start(trainer, out)
    log = _add_log(trainer, job, out, progress, recipe)
    _announce(job.config, data, progress)
    if checkpoint is not None:
        _go_on_from(checkpoint, trainer, log, progress)
    elif why_not:
        progress.log(f"finetune: {why_not}, so the training begins again")
    before = LoraOutputs.of(trainer.model)
    _run(trainer, job.config, checkpoint)
    untouched = _untouched(trainer, before, job.config, progress)
    measured = {**_measured(trainer, log), "untouched_layers": untouched}
    epochs = [epoch_folder(out, number) for number in range(1, log.epochs + 1)]
    if trainer.is_world_process_zero():
        write_records(epochs, recipe | measured, job.config, data.report)
        publish(epochs[log.best - 1], out)
    return TrainingResult(
        adapter=out,
        epochs=epochs,
        best=log.best,
        seconds=log.seconds,
        tokens_per_second=measured["tokens"] / log.seconds,
        heldout_loss=log.heldout["loss"],
        heldout_score=log.heldout["score"],
    )


def _check_watching(config: FinetuneConfig, data: TrainingData, scorer: Scorer | None) -> None:
    watches = config.watch == "score" or config.patience or config.eval_steps
    if watches and not data.heldout:
        raise BadInput(
            "finetune: patience, eval_steps and watch: score need held-out examples; "
            "write data.eval"
        )
    if config.watch == "score" and scorer is None:
        raise BadInput("finetune.watch: score needs a scorer; write quality.scorer")


def _add_log(
    trainer: Any, job: TrainingJob, out: Path, progress: Progress, recipe: Mapping[str, Any]
) -> TrainingLog:
    from finetune.log import LOG_FILE, TrainingLog

    def save_epoch(number: int) -> None:
        save_adapter(trainer, job.base, epoch_folder(out, number))

    log = TrainingLog(
        out / LOG_FILE, progress, trainer.all_tokens_seen, save_epoch, job.config, recipe
    )
    trainer.add_callback(log)
    return log


def _announce(config: FinetuneConfig, data: TrainingData, progress: Progress) -> None:
    progress.log(f"finetune: {data.report}")
    if not can_evaluate(config):
        progress.log(
            "finetune: an NF4 base can't be evaluated while it is trained on a CPU, "
            "so there is no held-out loss"
        )


def _is_everywhere(checkpoint: Path | None) -> bool:
    """Whether all processes, of all machines, have the same checkpoint, or all have none."""
    from accelerate.utils import gather_object

    return len(set(gather_object([checkpoint and checkpoint.name]))) == 1


def _go_on_from(checkpoint: Path, trainer: Any, log: TrainingLog, progress: Progress) -> None:
    is_first = trainer.is_world_process_zero()
    tokens = log.go_on_from(checkpoint, write=is_first)
    trainer.tokens_seen = tokens if is_first else 0  # the sum over the processes counts
    progress.log(f"finetune: going on from step {checkpoint.name.rpartition('-')[2]}")


def _run(trainer: Any, config: FinetuneConfig, checkpoint: Path | None) -> None:
    from peft.helpers import disable_input_dtype_casting

    # PEFT widens every input to its float32 weights, and autocast narrows it back:
    # two copies for nothing.
    is_narrowed = trainer.args.bf16 and config.method != "qlora"
    with disable_input_dtype_casting(trainer.model, active=is_narrowed):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def _measured(trainer: Any, log: TrainingLog) -> dict[str, Any]:
    """What was measured, as `tunedyno.json` holds it."""
    tokens = trainer.all_tokens_seen()
    return {
        "steps": trainer.state.global_step,
        "epochs": round(trainer.state.epoch, 4),
        "seconds": round(log.seconds, 3),
        "tokens": tokens,
        "tokens_per_second": round(tokens / log.seconds, 1),
        "heldout_loss": log.heldout["loss"],
        "heldout_score": log.heldout["score"],
        "best_epoch": log.best,
    }


def _untouched(
    trainer: Any, before: LoraOutputs, config: FinetuneConfig, progress: Progress
) -> list[str]:
    """The adapted layers that learned nothing. Raises SystemFailed where no layer learned."""
    layers = before.untouched(trainer.model)
    if before.all_of(layers):
        raise SystemFailed(
            f"finetune: {trainer.state.global_step} steps changed no weight of the adapter, "
            "so it is the base model; raise finetune.learning_rate "
            f"({config.learning_rate:g}), or look at the examples"
        )
    if layers:
        some = ", ".join(layers[:3]) + (", ..." if len(layers) > 3 else "")
        progress.log(
            f"finetune: {len(layers)} of {len(before)} adapted layers learned nothing ({some})"
        )
    return layers
