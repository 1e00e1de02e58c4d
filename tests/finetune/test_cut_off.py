"""A training that was cut off resumes if its inputs are the same, and otherwise restarts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetune import train
from finetune.config import FinetuneConfig
from finetune.job import TrainingJob
from foundation.data.examples import PromptStyle
from foundation.models.model import ModelRef
from foundation.progress import Silent
from tests.finetune.test_options import STEADY
from tests.finetune.test_train import HELDOUT, TRAIN, lines, same

CONFIG = FinetuneConfig(**STEADY, epochs=2, checkpoint_steps=2)  # 12 steps


class CutOff(Silent):
    """Ends a training after so many steps, and hears what is said."""

    def __init__(self, after: int = 0) -> None:
        self.after, self.steps, self.said = after, 0.0, list[str]()

    def advance(self, amount: float = 1, note: str = "") -> None:
        self.steps += amount
        if amount and self.steps == self.after:
            raise KeyboardInterrupt

    def log(self, line: str) -> None:
        self.said.append(line)


def cut_off(base: ModelRef, out: Path) -> Path:
    with pytest.raises(KeyboardInterrupt):
        train(TrainingJob(CONFIG, base, TRAIN, HELDOUT, None), out, CutOff(5))
    assert [each.name for each in out.glob("checkpoint-*")] == ["checkpoint-4"]
    return out


ANSWERED = [replace(TRAIN[0], completion="c"), *TRAIN[1:]]
STYLE = PromptStyle("Say: {input}")


@pytest.mark.parametrize(
    ("config", "data", "style", "what"),
    [
        pytest.param(
            CONFIG.model_copy(update={"learning_rate": 5e-3}),
            TRAIN,
            None,
            "config",
            marks=pytest.mark.slow,
        ),
        pytest.param(CONFIG, ANSWERED, None, "data", marks=pytest.mark.slow),
        (CONFIG, TRAIN, STYLE, "data"),
    ],
    ids=["settings", "an answer", "the wording"],
)
def test_another_training_s_checkpoint_is_not_gone_on_from(
    base: ModelRef,
    tmp_path: Path,
    config: FinetuneConfig,
    data: list[Any],
    style: PromptStyle | None,
    what: str,
) -> None:
    whole = train(TrainingJob(config, base, data, HELDOUT, style), tmp_path / "whole", Silent())
    heard = CutOff()
    begun_again = train(
        TrainingJob(config, base, data, HELDOUT, style), cut_off(base, tmp_path / "cut"), heard
    )
    assert (
        f"finetune: checkpoint-4 was made with another {what}, so the training begins again"
        in heard.said
    )
    assert same(begun_again.adapter, whole.adapter) and heard.steps == 12


SELDOM = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("tunedyno.json", "adapter_model.safetensors", "training.jsonl")
]


@pytest.mark.parametrize("harm", ["optimizer.pt", *SELDOM])
def test_a_checkpoint_that_is_not_whole_is_not_gone_on_from(
    base: ModelRef, tmp_path: Path, harm: str
) -> None:
    out = cut_off(base, tmp_path / "cut")
    file = out / harm if harm == "training.jsonl" else out / "checkpoint-4" / harm
    if harm == "training.jsonl":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    heard = CutOff()
    result = train(TrainingJob(CONFIG, base, TRAIN, HELDOUT, None), out, heard)
    assert "finetune: checkpoint-4 is not whole, so the training begins again" in heard.said
    assert heard.steps == 12 and len(lines(result.adapter)) == 14


@pytest.mark.slow
def test_a_log_whose_last_line_was_cut_off_is_gone_on_with(base: ModelRef, tmp_path: Path) -> None:
    whole = train(TrainingJob(CONFIG, base, TRAIN, HELDOUT, None), tmp_path / "whole", Silent())
    out = cut_off(base, tmp_path / "cut")
    log = out / "training.jsonl"
    log.write_text(log.read_text() + '{"step": 5, "ep')
    heard = CutOff()
    resumed = train(TrainingJob(CONFIG, base, TRAIN, HELDOUT, None), out, heard)
    assert "finetune: going on from step 4" in heard.said
    assert same(resumed.adapter, whole.adapter) and resumed.heldout_loss == whole.heldout_loss
    assert [line["step"] for line in lines(resumed.adapter)] == [
        line["step"] for line in lines(whole.adapter)
    ]
