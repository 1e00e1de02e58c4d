"""Layer pruning removes the block that changes the state least, and leaves an ordinary model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from finetune import prune
from finetune.config import FinetuneConfig
from finetune.job import TrainingJob
from finetune.prune import angular_distances, check_pruned, layers_to_drop
from foundation.errors import BadInput, SystemFailed
from foundation.models.model import ModelRef
from foundation.progress import Silent
from tests.finetune.test_train import TRAIN
from tests.tiny_model import build_tiny_model

IDLE = (2, 3)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    """Six layers, of which the third and the fourth add nothing to what goes through them."""
    import torch
    from transformers import AutoModelForCausalLM

    made = build_tiny_model(
        tmp_path_factory.mktemp("six"), layers=6, initializer_range=0.3, dtype="float32"
    )
    model = AutoModelForCausalLM.from_pretrained(made.path)
    with torch.no_grad():
        for index in IDLE:
            model.model.layers[index].self_attn.o_proj.weight.zero_()
            model.model.layers[index].mlp.down_proj.weight.zero_()
    model.save_pretrained(made.path)
    for left in ("optimizer.pt", "recipe.json", "trainer_state.json"):
        (made.path / left).write_text("{}")
    return made


def test_what_adds_nothing_goes_and_the_answers_stay(base: ModelRef, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    small = prune(TrainingJob(FinetuneConfig(), base, TRAIN, [], None), 1 / 3, tmp_path, Silent())
    about = json.loads((tmp_path / "prune.json").read_text())
    assert about["dropped"] == list(IDLE)
    assert about["angular_distances"][IDLE[0]] == pytest.approx(0, abs=1e-3)
    assert json.loads((tmp_path / "config.json").read_text())["num_hidden_layers"] == 4
    assert small.size_bytes() < base.size_bytes()
    full, pruned = ({file.name for file in at.iterdir()} for at in (base.path, tmp_path))
    assert full - pruned == {"optimizer.pt", "recipe.json", "trainer_state.json"}
    check_pruned(base, IDLE[0], 2, tmp_path)
    for first, count in ((1, 2), (3, 2), (2, 1)):
        with pytest.raises(SystemFailed, match=r"was written, and is not|was not written"):
            check_pruned(base, first, count, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(small.path)
    prompt = tokenizer.apply_chat_template(
        list(TRAIN[0].messages), add_generation_prompt=True, return_tensors="pt"
    )
    models = [AutoModelForCausalLM.from_pretrained(path) for path in (base.path, small.path)]
    with torch.no_grad():
        whole, left = (model(**prompt).logits for model in models)
        torch.testing.assert_close(left, whole)
        replies = [model.generate(**prompt, max_new_tokens=8, do_sample=False) for model in models]
    assert torch.equal(*replies)


def test_distance_is_the_angle_over_pi_averaged() -> None:
    import torch

    angles = np.array(
        [[0.0, 0.5, 2.0], [0.0, 1.5, 1.0]]
    )  # of two examples' states before, between and behind two layers
    states = torch.tensor(np.stack([np.cos(angles), np.sin(angles)], axis=-1) * [[[3.0]], [[0.2]]])
    assert angular_distances(states, 1).tolist() == pytest.approx(
        [(0.5 + 1.5) / 2 / np.pi, (1.5 + 0.5) / 2 / np.pi]
    )
    assert angular_distances(states, 2).tolist() == pytest.approx([(2.0 + 1.0) / 2 / np.pi])


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_some_layers_go_and_some_stay(share: float) -> None:
    assert layers_to_drop(32, 0.25) == 8
    with pytest.raises(BadInput, match=r"of 6 layers is \d; write a share that leaves some out"):
        layers_to_drop(6, share)
