"""One training run in its own process, by tunedyno or another trainer, and its held-out loss.

All learn the same examples with the same LoRA, learning rate, schedule, batch size and seed: these
decide the loss but not the speed. Everything else is each trainer's own.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from finetune import train
from finetune.config import FinetuneConfig
from finetune.data import TrainingData, prepare
from finetune.job import TrainingJob
from foundation.data.examples import Example, PromptStyle, read_examples, render
from foundation.models.model import ModelRef
from foundation.progress import Silent
from foundation.quiet_libraries import quiet_libraries


@dataclass(frozen=True)
class Score:
    """`tokens`: non-padding input tokens of the data; `seconds`: time of the training alone."""

    arm: str
    tokens: int
    seconds: float
    heldout_loss: float
    peak_gib: float

    @property
    def tokens_per_second(self) -> float:
        """Tokens trained a second."""
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Task:
    """What every arm is given."""

    config: FinetuneConfig
    base: ModelRef
    learned: list[Example]
    style: PromptStyle | None
    data: TrainingData
    out: Path


def by_us(task: Task) -> float:
    """Trains with tunedyno."""
    job = TrainingJob(task.config, task.base, task.learned, [], task.style)
    return train(job, task.out, Silent()).seconds


def by_sfttrainer(task: Task) -> float:
    """Trains with TRL's SFTTrainer."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    config, clock = task.config, _clock()
    rows = [
        {
            "prompt": render(e, task.style),
            "completion": [{"role": "assistant", "content": e.completion}],
        }
        for e in task.learned
    ]
    packed = {"packing": True, "max_length": config.max_length} if config.packing else {}
    trainer = SFTTrainer(
        model=str(task.base.path),
        train_dataset=Dataset.from_list(rows),
        peft_config=_lora(config),
        args=SFTConfig(per_device_train_batch_size=config.batch_size, **packed, **_settings(task)),
        callbacks=[clock],
    )
    trainer.train()
    trainer.save_model(str(task.out))
    return float(clock.seconds)


def by_plain_trainer(task: Task) -> float:
    """The Trainer of transformers on rows tokenized beforehand.

    It packs by joining the examples of a batch to one row. Its batch is as many examples as the
    packed rows of ours hold.
    """
    from datasets import Dataset
    from peft import get_peft_model
    from transformers import (
        AutoModelForCausalLM,
        DataCollatorForSeq2Seq,
        DataCollatorWithFlattening,
        Trainer,
        TrainingArguments,
    )

    config, clock, tokens = task.config, _clock(), task.data.train
    batch_size = config.batch_size
    collator: Any = DataCollatorForSeq2Seq(task.data.tokenizer)
    if config.packing:
        collator = DataCollatorWithFlattening(return_flash_attn_kwargs=False)
        batch_size = max(
            1, round(config.batch_size * config.max_length * len(tokens) / sum(map(len, tokens)))
        )
    rows = [
        {"input_ids": t.prompt + t.completion, "labels": [-100] * len(t.prompt) + t.completion}
        for t in tokens
    ]
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(task.base.path), _lora(config))
    trainer = Trainer(
        model=model,
        train_dataset=Dataset.from_list(rows),
        data_collator=collator,
        args=TrainingArguments(per_device_train_batch_size=batch_size, **_settings(task)),
        callbacks=[clock],
    )
    trainer.train()
    model.save_pretrained(task.out, save_embedding_layers=False)
    return float(clock.seconds)


def _lora(config: FinetuneConfig) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules=config.modules, task_type="CAUSAL_LM"
    )


def _settings(task: Task) -> dict[str, Any]:
    import torch

    return {
        "output_dir": str(task.out),
        "num_train_epochs": task.config.epochs,
        "learning_rate": task.config.learning_rate,
        "lr_scheduler_type": task.config.schedule,
        "warmup_steps": task.config.warmup,
        "seed": task.config.seed,
        "use_cpu": not torch.cuda.is_available(),
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def _clock() -> Any:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            self.seconds = time.perf_counter() - self.began

    return Clock()


def heldout_loss(base: ModelRef, adapter: Path, prepared: TrainingData) -> float:
    """Mean cross-entropy of the completion tokens, float32, a plain forward pass per example."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32), adapter
    ).eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for tokens in prepared.heldout:
            logits = model(input_ids=torch.tensor([tokens.prompt + tokens.completion])).logits[0]
            predicted = logits[len(tokens.prompt) - 1 : -1]
            total += float(
                torch.nn.functional.cross_entropy(
                    predicted, torch.tensor(tokens.completion), reduction="sum"
                )
            )
            count += len(tokens.completion)
    return total / count


ARMS = {
    "tunedyno": by_us,
    "SFTTrainer's defaults": by_sfttrainer,
    "plain Trainer": by_plain_trainer,
}


def main() -> None:
    """Runs one arm and prints its score as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("arm", choices=ARMS)
    parser.add_argument(
        "settings", type=json.loads, help="id, model, train, heldout, prompt, examples, config, out"
    )
    args = parser.parse_args()
    settings = args.settings
    quiet_libraries()
    base = ModelRef(settings["id"], None, Path(settings["model"]))
    style = PromptStyle(settings["prompt"]) if settings["prompt"] else None
    config = FinetuneConfig(**settings["config"])
    learned, heldout = (read_examples(Path(settings[split])) for split in ("train", "heldout"))
    learned = learned[: settings["examples"]]
    prepared = prepare(TrainingJob(config, base, learned, heldout, style))
    seconds = ARMS[args.arm](Task(config, base, learned, style, prepared, Path(settings["out"])))
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    loss = heldout_loss(base, Path(settings["out"]), prepared)
    print(
        "\n" + json.dumps(asdict(Score(args.arm, prepared.report.tokens, seconds, loss, peak_gib)))
    )


if __name__ == "__main__":
    main()
