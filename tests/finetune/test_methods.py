"""Each method's adapter, saved, must be on the original base what it was in training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune import train
from finetune.config import FinetuneConfig
from finetune.data import prepare
from finetune.job import TrainingJob
from foundation.errors import BadInput
from foundation.models.model import ModelRef
from foundation.progress import Silent
from tests.finetune.conftest import LABELS, example
from tests.finetune.test_train import HELDOUT, TRAIN


def loss_of_saved(base: ModelRef, adapter: Path, config: FinetuneConfig) -> float:
    """Mean over the held-out examples' tokens, by plain peft on the base as it lies on the disk."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base.path, dtype="float32"), adapter
    ).eval()
    losses = []
    for t in prepare(TrainingJob(config, base, TRAIN, HELDOUT, None)).heldout:
        ids = torch.tensor([t.prompt + t.completion])
        with torch.no_grad():
            log_probabilities = torch.log_softmax(
                model(input_ids=ids).logits[0, len(t.prompt) - 1 : -1], dim=-1
            )
        losses += [-float(log_probabilities[i, token]) for i, token in enumerate(t.completion)]
    return sum(losses) / len(losses)


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        ({"method": "lora"}, 1e-3),
        ({"method": "rslora"}, 1e-3),
        ({"method": "dora"}, 1e-3),
        ({"method": "dora", "dtype": "bfloat16"}, 0.3),
        ({"method": "pissa", "epochs": 2}, 1e-3),
        ({"method": "pissa", "dtype": "bfloat16"}, 0.3),
        (
            {"method": "qlora", "base_format": "int8"},
            0.3,
        ),  # trained beside rounded weights, measured on the whole ones
        ({"method": "lora", "modules_to_save": ["norm"]}, 1e-3),
        ({"method": "lora", "gradient_checkpointing": True}, 1e-3),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_the_saved_adapter_is_what_was_trained(
    base: ModelRef, tmp_path: Path, settings: dict[str, Any], tolerance: float
) -> None:
    config = FinetuneConfig(
        rank=4, alpha=8, batch_size=8, learning_rate=1e-2, **{"dtype": "float32", **settings}
    )
    untrained = FinetuneConfig(rank=4, batch_size=8, learning_rate=1e-12, dtype="float32", limit=8)
    before = train(
        TrainingJob(untrained, base, TRAIN, HELDOUT, None), tmp_path / "before", Silent()
    ).heldout_loss[-1]
    result = train(TrainingJob(config, base, TRAIN, HELDOUT, None), tmp_path / "adapter", Silent())
    assert result.heldout_loss[-1] < before - 1
    saved = loss_of_saved(base, result.epochs[-1], config)
    assert saved == pytest.approx(result.heldout_loss[-1], abs=tolerance)


def test_pissa_starts_where_the_base_is_and_is_saved_as_a_plain_adapter(
    base: ModelRef, tmp_path: Path
) -> None:
    config = FinetuneConfig(method="pissa", rank=4, batch_size=8, dtype="float32")
    result = train(TrainingJob(config, base, TRAIN, HELDOUT, None), tmp_path, Silent())
    about = json.loads((result.adapter / "adapter_config.json").read_text())
    assert (about["r"], about["init_lora_weights"]) == (config.saved_rank, True)
    assert not (tmp_path / "start").exists()


def test_an_nf4_base_is_trained_but_not_evaluated_on_a_cpu(base: ModelRef, tmp_path: Path) -> None:
    config = FinetuneConfig(method="qlora", rank=4, batch_size=8, learning_rate=1e-2, epochs=2)
    result = train(TrainingJob(config, base, TRAIN, HELDOUT, None), tmp_path / "adapter", Silent())
    assert result.heldout_loss == []
    losses = [
        json.loads(line)["loss"]
        for line in (result.adapter / "training.jsonl").read_text().splitlines()
    ]
    assert losses[-1] < losses[0] - 1
    assert loss_of_saved(base, result.adapter, config) < losses[0] - 1
    with pytest.raises(BadInput, match="nf4 can't be evaluated while it is trained on a CPU"):
        train(
            TrainingJob(config.model_copy(update={"patience": 1}), base, TRAIN, HELDOUT, None),
            tmp_path / "b",
            Silent(),
        )


def test_modules_to_save_are_checked_against_the_weights(base: ModelRef, tmp_path: Path) -> None:
    for module, message in (
        ("nrm", r"no module 'nrm' .did you mean 'norm'"),
        ("lm_head", "one matrix for embed_tokens and lm_head"),
    ):
        with pytest.raises(BadInput, match=message):
            train(
                TrainingJob(FinetuneConfig(modules_to_save=(module,)), base, TRAIN, HELDOUT, None),
                tmp_path,
                Silent(),
            )


def test_packed_rows_cost_and_teach_what_single_rows_do(base: ModelRef, tmp_path: Path) -> None:
    """Loss and gradients of one packed batch against a plain forward pass, example by example."""
    from finetune.build import build_trainer
    from tests.finetune.test_trainer import check_against_the_plain_pass

    many = [example("word " * (i % 5) + str(i), LABELS[i % 3] * (1 + i % 4), i) for i in range(12)]
    config = FinetuneConfig(dtype="float32", batch_size=4, packing=True, max_length=200)
    trainer = build_trainer(
        config, base, prepare(TrainingJob(config, base, many, [], None)), tmp_path
    )
    assert 1 < len(trainer.train_dataset) < len(many) / 2
    check_against_the_plain_pass(trainer, 1e-5)
    assert trainer.tokens_seen == sum(len(t) for t in trainer.examples)
