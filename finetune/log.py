"""`training.jsonl`, the adapter of each epoch, the best epoch, and checkpoints to resume from."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from finetune.config import FinetuneConfig
from foundation.files.atomic_write import write_whole
from foundation.progress import Progress

LOG_FILE = "training.jsonl"
CHECKPOINT_FILE = "tunedyno.json"
_LEFT_OUT = (CHECKPOINT_FILE, ".", "rng_state_")
_KEYS = ("loss", "learning_rate", "grad_norm", "tokens_per_second", "heldout_loss", "heldout_score")


# mypy does not follow the imports of transformers: they take it minutes.
class TrainingLog(TrainerCallback):  # type: ignore[misc]
    """Writes one JSON object per logging step and per evaluation; a key without a value is null.

    `tokens` counts the input tokens so far without padding. `tokens_per_second` is over the
    training since the last line, without evaluation and saving. `tokens_seen` returns the trainer's
    count, `save_epoch` writes the adapter of an epoch (from 1). `heldout` has one value an epoch;
    those of `eval_steps` are in the file only. Training stops after `patience` epochs without a
    better watched value. `recipe` is what a checkpoint depends on. Only the first of several
    processes writes.
    """

    def __init__(
        self,
        file: Path,
        progress: Progress,
        tokens_seen: Callable[[], int],
        save_epoch: Callable[[int], None],
        config: FinetuneConfig,
        recipe: Mapping[str, Any],
    ) -> None:
        self.file = file
        self.progress = progress
        self.tokens_seen = tokens_seen
        self.save_epoch = save_epoch
        self.watch = config.watch
        self.patience, self.eval_steps = config.patience, config.eval_steps
        self.recipe = recipe
        self.seconds = 0.0
        self.epochs = 0
        self.heldout: dict[str, list[float]] = {"loss": [], "score": []}
        self._epoch_is_over = False
        self._since = 0.0
        self._logged = (0, 0.0)

    @property
    def best(self) -> int:
        """The epoch (from 1) with the best watched value.

        The earlier of equals, and the last epoch where nothing was measured.
        """
        values = self.heldout[self.watch]
        if not values:
            return self.epochs
        return 1 + values.index(min(values) if self.watch == "loss" else max(values))

    def go_on_from(self, checkpoint: Path, *, write: bool) -> int:
        """Resume the log of a training that was cut off; the tokens seen until the checkpoint.

        With `write`, lines after the checkpoint are removed from the file.
        """
        state = json.loads((checkpoint / CHECKPOINT_FILE).read_text(encoding="utf-8"))
        kept = [line for line in _whole_lines(self.file) if line["step"] <= state["step"]]
        if write:
            write_whole(self.file, "".join(json.dumps(line) + "\n" for line in kept))
        self.heldout = state["heldout"]
        self.seconds, self.epochs = state["seconds"], state["epochs"]
        self._logged = (state["tokens"], self.seconds)
        return int(state["tokens"])

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the progress bar, and an empty log where nothing is resumed."""
        self.progress.stage("finetune", state.max_steps, "step")
        self.progress.advance(state.global_step)
        if state.is_world_process_zero and not state.global_step:
            write_whole(self.file, "")

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock of training."""
        self._epoch_is_over = False
        self._since = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Advance the clock and the bar, and evaluate after every `eval_steps`."""
        now = time.perf_counter()
        self.seconds += now - self._since
        self._since = now
        self.progress.advance(1)
        # An epoch's last step is evaluated when the epoch is over, and the last of all with it.
        last = state.global_step >= state.max_steps or float(state.epoch).is_integer()
        if (
            self.eval_steps
            and args.eval_strategy != "no"
            and state.global_step % self.eval_steps == 0
            and not last
        ):
            control.should_evaluate = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save the epoch's adapter."""
        self._epoch_is_over = True
        self.epochs = math.ceil(round(state.epoch, 6))  # the last may be a part of one
        if state.is_world_process_zero:
            self.save_epoch(self.epochs)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        """Write a line for logged training values, and one for each held-out value."""
        logs = logs or {}
        if "loss" in logs:
            self._log_training(state, logs)
        for name in self.heldout:
            if (value := logs.get(f"eval_{name}")) is not None:
                self._log_heldout(name, value, state, control)

    def _log_training(self, state: Any, logs: Mapping[str, float]) -> None:
        tokens, seconds = self.tokens_seen(), self.seconds
        rate = (tokens - self._logged[0]) / (seconds - self._logged[1])
        self._logged = (tokens, seconds)
        self.progress.advance(0, f"loss {logs['loss']:.3f}, {rate:,.0f} tokens/s")
        values = {key: logs[key] for key in ("loss", "learning_rate", "grad_norm")}
        self._write(state, tokens, **values, tokens_per_second=rate)

    def _log_heldout(self, name: str, value: float, state: Any, control: Any) -> None:
        self.progress.log(f"epoch {state.epoch:.3g}: held-out {name} {value:.4f}")
        self._write(state, self.tokens_seen(), **{f"heldout_{name}": value})
        self._since = time.perf_counter()
        if not self._epoch_is_over:
            return
        values = self.heldout[name]
        values.append(value)
        if name == self.watch and self.patience and len(values) - self.best >= self.patience:
            self.progress.log(f"no better held-out {name} since epoch {self.best}: training stops")
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the last file of a checkpoint, with the sizes of the others.

        A checkpoint without it, or with a file of another size, was cut off.
        """
        tokens = self.tokens_seen()
        if state.is_world_process_zero:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            about = {
                "recipe": self.recipe,
                "step": state.global_step,
                "seconds": self.seconds,
                "tokens": tokens,
                "epochs": self.epochs,
                "heldout": self.heldout,
                "files": _sizes(checkpoint),
            }
            write_whole(checkpoint / CHECKPOINT_FILE, json.dumps(about))
        self._since = time.perf_counter()

    def _write(self, state: Any, tokens: int, **values: float) -> None:
        if not state.is_world_process_zero:
            return
        line = {
            "step": state.global_step,
            "epoch": round(state.epoch, 4),
            "tokens": tokens,
            **dict.fromkeys(_KEYS),
            **values,
        }
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def last_checkpoint(folder: Path, recipe: Mapping[str, Any]) -> tuple[Path | None, str]:
    """The newest whole checkpoint of this recipe, and why no other one will do."""
    why = ""
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=_step, reverse=True):
        try:
            about = json.loads((checkpoint / CHECKPOINT_FILE).read_text(encoding="utf-8"))
            whole = about["files"] == _sizes(checkpoint) and (folder / LOG_FILE).is_file()
            changed = [name for name in recipe if about["recipe"].get(name) != recipe[name]]
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            whole, changed = False, []
        if whole and not changed:
            return checkpoint, ""
        reason = f"was made with another {changed[0]}" if changed else "is not whole"
        why = why or f"{checkpoint.name} {reason}"
    return None, why


def _step(checkpoint: Path) -> int:
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def _sizes(checkpoint: Path) -> dict[str, int]:
    """Bytes of each file, by name, except the record itself and the files of other processes."""
    files = [
        file
        for file in checkpoint.rglob("*")
        if file.is_file() and not file.name.startswith(_LEFT_OUT)
    ]
    return {str(file.relative_to(checkpoint)): file.stat().st_size for file in sorted(files)}


def _whole_lines(file: Path) -> list[dict[str, Any]]:
    """The lines of a log, without a last one that was cut off."""
    lines = file.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]
