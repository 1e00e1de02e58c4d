"""Training that goes on from an adapter, and what it is not gone on from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from finetune import check, train
from finetune.config import FinetuneConfig
from finetune.job import TrainingJob
from finetune.train import TrainingResult
from foundation.errors import BadInput
from foundation.models.model import ModelRef
from foundation.progress import Silent
from tests.finetune.test_options import STEADY
from tests.finetune.test_train import HELDOUT, TRAIN, lines, weights
from tests.tiny_model import build_tiny_model

CONFIG = FinetuneConfig(**STEADY, epochs=2, learning_rate=1e-2)


@pytest.fixture(scope="module")
def trained(base: ModelRef, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    return train(
        TrainingJob(CONFIG, base, TRAIN, HELDOUT, None), tmp_path_factory.mktemp("first"), Silent()
    )


def test_a_warm_start_begins_where_the_adapter_was(
    base: ModelRef, trained: TrainingResult, tmp_path: Path
) -> None:
    """At a tiny rate it stays the adapter; at a usual one the loss continues from the adapter's."""
    import torch

    still = CONFIG.model_copy(
        update={"warm_start": trained.adapter, "max_steps": 1, "epochs": 1, "learning_rate": 1e-9}
    )
    result = train(TrainingJob(still, base, TRAIN, HELDOUT, None), tmp_path / "still", Silent())
    assert result.heldout_loss[0] == pytest.approx(trained.heldout_loss[trained.best - 1], rel=1e-3)
    first, second = weights(trained.adapter), weights(result.adapter)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=0, atol=1e-8)
    onward = CONFIG.model_copy(update={"warm_start": trained.adapter, "epochs": 1})
    losses = [
        line["loss"]
        for line in lines(
            train(TrainingJob(onward, base, TRAIN, [], None), tmp_path / "on", Silent()).adapter
        )
    ]
    assert losses[0] < lines(trained.adapter)[0]["loss"] / 2
    about = json.loads((tmp_path / "on" / "tunedyno.json").read_text())
    assert (
        about["config"]["warm_start"] == trained.adapter.name
        and len(about["files"]["warm_start"]) == 64
    )


def changed(adapter: Path, to: Path, **about: Any) -> Path:
    shutil.copytree(adapter, to)
    file = to / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | about))
    return to


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rank": 8}, r"finetune\.rank: 8, but the adapter .* that training starts from has 4"),
        ({"alpha": 8}, r"finetune\.alpha: 8(\.0)?, but the adapter"),
        ({"method": "rslora"}, r"finetune\.method: rslora, but the adapter .* has lora"),
        (
            {"target_modules": ("q_proj",)},
            r"finetune\.target_modules: the adapter .* has one for model\.layers\.0",
        ),
    ],
)
def test_an_adapter_of_another_shape_is_refused(
    base: ModelRef, trained: TrainingResult, settings: dict[str, Any], words: str
) -> None:
    config = CONFIG.model_copy(update={"warm_start": trained.adapter, **settings})
    with pytest.raises(BadInput, match=words):
        check(TrainingJob(config, base, TRAIN, HELDOUT, None))


def test_what_is_no_adapter_of_this_base_is_refused(
    base: ModelRef, trained: TrainingResult, tmp_path: Path
) -> None:
    def refused(folder: Path, words: str, of: ModelRef = base) -> None:
        with pytest.raises(BadInput, match=words):
            check(
                TrainingJob(
                    CONFIG.model_copy(update={"warm_start": folder}), of, TRAIN, HELDOUT, None
                )
            )

    refused(tmp_path / "none", r"no adapter_config\.json in it")
    refused(changed(trained.adapter, tmp_path / "ia3", peft_type="IA3"), "peft_type: IA3")
    refused(
        changed(trained.adapter, tmp_path / "ranks", rank_pattern={"q_proj": 8}), "rank_pattern"
    )
    refused(
        changed(trained.adapter, tmp_path / "text", modules_to_save=1),
        "modules_to_save: 1; write a list of names",
    )
    other = build_tiny_model(tmp_path / "other", 1, initializer_range=0.5)
    refused(trained.adapter, "trained on other weights than those of", other)
    cut = changed(trained.adapter, tmp_path / "cut")
    file = cut / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    refused(cut, r"adapter_model\.safetensors: not a safetensors file")
    file.unlink()
    refused(cut, r"no adapter_model\.safetensors in it")


def test_a_tensor_too_few_is_no_start(
    base: ModelRef, trained: TrainingResult, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    part = changed(trained.adapter, tmp_path / "part")
    tensors = {
        name: tensor for name, tensor in weights(part).items() if ".1.mlp.down_proj" not in name
    }
    save_file(tensors, part / "adapter_model.safetensors")
    with pytest.raises(
        BadInput, match=r"lacks base_model\.model\.model\.layers\.1\.mlp\.down_proj.* \(2 such\)"
    ):
        train(
            TrainingJob(CONFIG.model_copy(update={"warm_start": part}), base, TRAIN, [], None),
            tmp_path / "out",
            Silent(),
        )
