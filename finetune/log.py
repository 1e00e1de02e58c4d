"""`training.jsonl`, the bar on the screen, and the adapter that each epoch leaves behind."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from foundation.progress import Progress


class TrainingLog(TrainerCallback):  # type: ignore[misc]
    """One JSON object per logging step and per evaluation; a key that has no value there is null.

    `tokens` is the count of non-padding input tokens so far; `tokens_per_second` is over the training since the last line,
    evaluation and saving left out. `tokens_seen` asks the trainer, `save_epoch` writes the adapter of an epoch (from 1).
    """

    def __init__(self, file: Path, progress: Progress, tokens_seen: Callable[[], int], save_epoch: Callable[[int], None]) -> None:
        self.file = file.open("w", encoding="utf-8")
        self.progress = progress
        self.tokens_seen = tokens_seen
        self.save_epoch = save_epoch
        self.seconds = 0.0
        self.heldout_loss: list[float] = []
        self._since = 0.0
        self._logged = (0, 0.0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress.stage("finetune", state.max_steps, "step")

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._since = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now = time.perf_counter()
        self.seconds += now - self._since
        self._since = now
        self.progress.advance(1)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.save_epoch(round(state.epoch))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        logs = logs or {}
        if "loss" in logs:
            tokens, seconds = self.tokens_seen(), self.seconds
            rate = (tokens - self._logged[0]) / (seconds - self._logged[1])
            self._logged = (tokens, seconds)
            self.progress.advance(0, f"loss {logs['loss']:.3f}, {rate:,.0f} tokens/s")
            self._write(
                state, loss=logs["loss"], learning_rate=logs["learning_rate"], grad_norm=logs["grad_norm"], tokens_per_second=rate
            )
        elif "eval_loss" in logs:
            self.heldout_loss.append(logs["eval_loss"])
            self.progress.log(f"epoch {state.epoch:g}: held-out loss {logs['eval_loss']:.4f}")
            self._write(state, heldout_loss=logs["eval_loss"])

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.file.close()

    def _write(self, state: Any, **values: float) -> None:
        keys = ("loss", "learning_rate", "grad_norm", "tokens_per_second", "heldout_loss")
        line = {
            "step": state.global_step,
            "epoch": round(state.epoch, 4),
            "tokens": self.tokens_seen(),
            **dict.fromkeys(keys),
            **values,
        }
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
