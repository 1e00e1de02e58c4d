"""Which epoch is kept, when training stops, and going on after it was cut off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune import train
from finetune.config import FinetuneConfig
from finetune.data import prepare
from finetune.job import TrainingJob
from finetune.score import TaskScore
from foundation.errors import BadInput
from foundation.models.model import ModelRef
from foundation.progress import Silent
from tests.finetune.conftest import LABELS, example
from tests.finetune.test_train import HELDOUT, TRAIN, lines, same, weights

CONTRADICTED = [
    example(f"another {label}", LABELS[i - 1], i, "heldout.jsonl") for i, label in enumerate(LABELS)
]
ALIKE = [
    example(f"{label} story {30 + i}", label, i, "heldout.jsonl") for i, label in enumerate(LABELS)
]


def exact(answer: str, reference: str) -> float:
    return float(answer.strip() == reference)


def wrong(answer: str, reference: str) -> float:
    return float(answer.strip() != reference)


def test_the_best_epoch_is_the_adapter_and_training_stops_when_it_gets_no_better(
    base: ModelRef, tmp_path: Path
) -> None:
    config = FinetuneConfig(rank=8, epochs=8, batch_size=4, learning_rate=2e-2, patience=2)
    result = train(TrainingJob(config, base, TRAIN, CONTRADICTED, None), tmp_path, Silent())
    losses = result.heldout_loss
    assert len(losses) == len(result.epochs) == result.best + 2 < 8
    assert losses.index(min(losses)) + 1 == result.best
    assert same(result.adapter, result.epochs[result.best - 1])
    assert not same(result.adapter, result.epochs[-1])
    assert json.loads((result.adapter / "tunedyno.json").read_text())["epoch"] == result.best


def test_the_task_s_own_score_decides_where_it_is_watched(base: ModelRef, tmp_path: Path) -> None:
    config = FinetuneConfig(rank=8, epochs=3, batch_size=4, learning_rate=2e-2, watch="score")
    good = train(TrainingJob(config, base, TRAIN, ALIKE, None), tmp_path / "good", Silent(), exact)
    assert max(good.heldout_score) >= 2 / 3
    assert good.best == 1 + good.heldout_score.index(max(good.heldout_score))
    assert [
        x["heldout_score"] for x in lines(good.adapter) if x["heldout_score"] is not None
    ] == good.heldout_score
    early = config.model_copy(update={"patience": 1, "epochs": 6})
    stopped = train(
        TrainingJob(early, base, TRAIN, ALIKE, None), tmp_path / "wrong", Silent(), wrong
    )
    assert stopped.best == len(stopped.heldout_score) - 1 < 5
    with pytest.raises(BadInput, match=r"watch: score needs a scorer; write quality\.scorer"):
        train(TrainingJob(config, base, TRAIN, HELDOUT, None), tmp_path / "none", Silent())


def test_batched_answers_are_those_of_single_questions(base: ModelRef) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    prepared = prepare(TrainingJob(FinetuneConfig(), base, TRAIN, HELDOUT, None))
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32).eval()
    answers: dict[int, list[str]] = {}
    for size in (1, 3):
        heard: list[str] = []

        def listen(answer: str, reference: str, heard: list[str] = heard) -> float:
            heard.append(answer)
            return 0.0

        TaskScore(listen, prepared.heldout, prepared.tokenizer, 0, size)(model)
        answers[size] = heard
    assert answers[1] == answers[3] and len(answers[1]) == len(HELDOUT)


@pytest.mark.parametrize(
    ("method", "every", "cut_at"), [("lora", None, 9), ("lora", 4, 10), ("pissa", 4, 10)]
)
def test_a_training_that_was_cut_off_goes_on_to_the_same_curve(
    base: ModelRef, tmp_path: Path, method: str, every: int | None, cut_at: int
) -> None:
    class CutOff(Silent):
        steps = 0.0

        def advance(self, amount: float = 1, note: str = "") -> None:
            self.steps += amount
            if self.steps == cut_at and amount:
                raise KeyboardInterrupt

    settings: dict[str, Any] = {
        "method": method,
        "rank": 4,
        "epochs": 3,
        "batch_size": 4,
        "learning_rate": 5e-3,
    }
    config = FinetuneConfig(dtype="float32", dropout=0.1, checkpoint_steps=every, **settings)
    whole = train(TrainingJob(config, base, TRAIN, HELDOUT, None), tmp_path / "whole", Silent())
    with pytest.raises(KeyboardInterrupt):
        train(TrainingJob(config, base, TRAIN, HELDOUT, None), tmp_path / "cut", CutOff())
    assert list((tmp_path / "cut").glob("checkpoint-*"))
    resumed = train(TrainingJob(config, base, TRAIN, HELDOUT, None), tmp_path / "cut", Silent())

    def curve(adapter: Path) -> list[tuple[Any, ...]]:
        return [(x["step"], x["tokens"], x["loss"], x["heldout_loss"]) for x in lines(adapter)]

    assert curve(resumed.adapter) == curve(whole.adapter)
    assert resumed.heldout_loss == whole.heldout_loss
    first, second = weights(whole.adapter), weights(resumed.adapter)
    assert all((first[name] == second[name]).all() for name in first)
    assert not list((tmp_path / "cut").glob("checkpoint-*"))


def test_the_model_card_says_what_it_was_made_of(base: ModelRef, tmp_path: Path) -> None:
    config = FinetuneConfig(rank=4, epochs=2, batch_size=8)
    result = train(TrainingJob(config, base, TRAIN, HELDOUT, None), tmp_path, Silent())
    card = (result.adapter / "README.md").read_text()
    about = json.loads((result.adapter / "tunedyno.json").read_text())
    assert card.startswith(f"---\nbase_model: {base.id}\n")
    assert about["data"]["train_sha256"] in card and about["data"]["heldout_sha256"] in card
    assert "| `rank` | 4 |" in card and "| `learning_rate` | 0.0002 |" in card
    for number, loss in enumerate(result.heldout_loss, start=1):
        assert f"| {number} | {loss:.4f} |" in card
