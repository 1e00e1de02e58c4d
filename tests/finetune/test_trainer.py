"""The trainer's shortcuts keep its results: loss and gradients against a plain forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.build import build_trainer, fill_up
from finetune.config import FinetuneConfig
from finetune.data import prepare
from finetune.job import TrainingJob
from finetune.tokens import ExampleTokens
from foundation.data.examples import PromptStyle
from foundation.models.model import ModelRef
from tests.finetune.conftest import example

SHARED = PromptStyle("Topic of this news story (earn, acq):\n\n{input}")


def build(base: ModelRef, out: Path, answers: list[str], style: PromptStyle | None) -> Any:
    config = FinetuneConfig(dtype="float32", batch_size=len(answers))
    train = [example(f"{'word ' * (3 * i)}end", answer, i) for i, answer in enumerate(answers)]
    return build_trainer(config, base, prepare(TrainingJob(config, base, train, [], style)), out)


def plain_loss(model: Any, rows: list[ExampleTokens]) -> torch.Tensor:
    total, count = torch.zeros(()), 0
    for row in rows:
        ids = torch.tensor([row.prompt + row.completion])
        predicted = torch.log_softmax(
            model(input_ids=ids).logits[0, len(row.prompt) - 1 : -1], dim=-1
        )
        total = total - predicted[range(len(row.completion)), row.completion].sum()
        count += len(row.completion)
    return total / count


def gradients(trainer: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    trainer.model.zero_grad()
    loss.backward()
    return {
        name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None
    }


def check_against_the_plain_pass(trainer: Any, atol: float) -> None:
    """Loss and gradients of one batch of all rows."""
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(
                    parameter, std=0.1
                )  # as it stands after some training: at zero, A would have no gradient
    batch = trainer.data_collator(
        [trainer.train_dataset[i] for i in range(len(trainer.train_dataset))]
    )
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, batch)
    ours = gradients(trainer, loss)
    expected = plain_loss(trainer.model, trainer.examples)
    theirs = gradients(trainer, expected)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert ours.keys() == theirs.keys() != set()
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=atol, msg=name)


@pytest.mark.parametrize("style", [SHARED, None], ids=["shared prefix", "nothing shared"])
@pytest.mark.parametrize(
    "answers", [["earn", "acq", "a longer answer"], ["x" * 150, "y" * 90]], ids=["short", "long"]
)
def test_loss_and_gradients_are_those_of_the_plain_forward_pass(
    base: ModelRef, tmp_path: Path, answers: list[str], style: PromptStyle | None
) -> None:
    trainer = build(base, tmp_path, answers, style)
    assert bool(trainer.prefix) == (style is SHARED)
    check_against_the_plain_pass(trainer, 1e-6)


@pytest.mark.parametrize("packing", [False, True], ids=["rows", "packed"])
def test_heldout_loss_is_the_mean_over_tokens_however_they_are_batched(
    base: ModelRef, tmp_path: Path, packing: bool
) -> None:
    config = FinetuneConfig(dtype="float32", batch_size=2, packing=packing, max_length=256)
    answers = ["earn", "a much longer answer", "acq", "grain", "x" * 90]
    train, heldout = (
        [example(f"{split} {'word ' * i}", a, i) for i, a in enumerate(answers)]
        for split in ("one", "two")
    )
    prepared = prepare(TrainingJob(config, base, train, heldout, None))
    trainer = build_trainer(config, base, prepared, tmp_path)
    with torch.no_grad():
        expected = plain_loss(trainer.model, prepared.heldout).item()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)
    rows = len(trainer.eval_dataset)
    trainer.eval_dataset = fill_up(trainer.eval_dataset, 8)  # as for four processes
    assert rows < len(trainer.eval_dataset) == 8
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)
    assert len(fill_up(trainer.eval_dataset, 4)) == 8


def test_tokens_are_counted_without_padding(base: ModelRef, tmp_path: Path) -> None:
    trainer = build(base, tmp_path, ["earn", "acq", "crude"], SHARED)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(3)])
    trainer.model.train()
    trainer.compute_loss(trainer.model, batch)
    assert trainer.tokens_seen == sum(len(t.prompt) + len(t.completion) for t in trainer.examples)
