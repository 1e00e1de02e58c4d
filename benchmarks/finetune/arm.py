"""One training run in a process of its own, by us or by SFTTrainer as it comes, and the held-out loss of what it made.

Both learn the same examples with the same LoRA, learning rate, schedule, batch size and seed, which decide the loss and not the
speed. All else is each one's own.
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
from finetune.data import Prepared, prepare
from foundation.examples import Example, PromptStyle, read_examples, render
from foundation.model import ModelRef
from foundation.progress import Silent
from foundation.quiet import quiet_libraries


@dataclass(frozen=True)
class Score:
    """`tokens` are non-padding input tokens of the data, counted once for both; `seconds` those of training alone."""

    arm: str
    tokens: int
    seconds: float
    heldout_loss: float
    peak_gib: float

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


def by_us(config: FinetuneConfig, base: ModelRef, learned: list[Example], style: PromptStyle | None, out: Path) -> float:
    return train(config, base, learned, [], style, out, Silent()).seconds


def by_sfttrainer(config: FinetuneConfig, base: ModelRef, learned: list[Example], style: PromptStyle | None, out: Path) -> float:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            self.seconds = time.perf_counter() - self.began

    rows = [{"prompt": render(e, style), "completion": [{"role": "assistant", "content": e.completion}]} for e in learned]
    clock = Clock()
    trainer = SFTTrainer(
        model=str(base.path),
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=config.modules, task_type="CAUSAL_LM"),
        args=SFTConfig(
            output_dir=str(out),
            num_train_epochs=config.epochs,
            per_device_train_batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            lr_scheduler_type=config.schedule,
            warmup_steps=config.warmup,
            seed=config.seed,
            use_cpu=not torch.cuda.is_available(),
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        callbacks=[clock],
    )
    trainer.train()
    trainer.save_model(str(out))
    return clock.seconds


def heldout_loss(base: ModelRef, adapter: Path, prepared: Prepared) -> float:
    """Mean cross-entropy of the completions' tokens, in float32, by the plain forward pass, one example at a time."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32), adapter).eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for tokens in prepared.heldout:
            logits = model(input_ids=torch.tensor([tokens.prompt + tokens.completion])).logits[0]
            predicted = logits[len(tokens.prompt) - 1 : -1]
            total += float(torch.nn.functional.cross_entropy(predicted, torch.tensor(tokens.completion), reduction="sum"))
            count += len(tokens.completion)
    return total / count


ARMS = {"tunedyno": by_us, "SFTTrainer's defaults": by_sfttrainer}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("arm", choices=ARMS)
    parser.add_argument("settings", type=json.loads, help="model, train, heldout, prompt, config, out")
    args = parser.parse_args()
    settings = args.settings
    quiet_libraries()
    base = ModelRef(settings["id"], None, Path(settings["model"]))
    style = PromptStyle(settings["prompt"]) if settings["prompt"] else None
    config = FinetuneConfig(**settings["config"])
    learned, heldout = (read_examples(Path(settings[split])) for split in ("train", "heldout"))
    learned = learned[: settings["examples"]]
    prepared = prepare(config, base, learned, heldout[: config.eval_limit], style)
    seconds = ARMS[args.arm](config, base, learned, style, Path(settings["out"]))
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    loss = heldout_loss(base, Path(settings["out"]), prepared)
    print("\n" + json.dumps(asdict(Score(args.arm, prepared.report.tokens, seconds, loss, peak_gib))))


if __name__ == "__main__":
    main()
