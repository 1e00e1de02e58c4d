from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune import train
from finetune.config import FinetuneConfig
from finetune.job import TrainingJob
from finetune.train import TrainingResult
from foundation.errors import SystemFailed
from foundation.models.model import ModelRef
from foundation.progress import Silent
from tests.finetune.conftest import LABELS, example

TRAIN = [example(f"{LABELS[i % 3]} story {i}", LABELS[i % 3], i) for i in range(1, 25)]
HELDOUT = [example(f"another {label}", label, i, "heldout.jsonl") for i, label in enumerate(LABELS)]
CONFIG = FinetuneConfig(rank=8, epochs=3, batch_size=4, learning_rate=2e-2, warmup=0.1)


class Heard(Silent):
    def __init__(self) -> None:
        self.stages: list[tuple[str, float | None, str]] = []
        self.steps = 0.0
        self.notes: list[str] = []

    def stage(self, name: str, total: float | None, unit: str) -> None:
        self.stages.append((name, total, unit))

    def advance(self, amount: float = 1, note: str = "") -> None:
        self.steps += amount
        self.notes.append(note)


Training = tuple[TrainingResult, Heard]


@pytest.fixture(scope="module")
def trained(base: ModelRef, tmp_path_factory: pytest.TempPathFactory) -> Training:
    heard = Heard()
    return train(
        TrainingJob(CONFIG, base, TRAIN, HELDOUT, None), tmp_path_factory.mktemp("adapter"), heard
    ), heard


def lines(adapter: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (adapter / "training.jsonl").read_text().splitlines()]


def weights(adapter: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(adapter / "adapter_model.safetensors")


def same(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all((first[k] == second[k]).all() for k in first)


def test_one_adapter_an_epoch_and_the_best_on_top(trained: Training) -> None:
    result, _ = trained
    assert [folder.name for folder in result.epochs] == ["epoch-1", "epoch-2", "epoch-3"]
    assert same(result.adapter, result.epochs[result.best - 1])
    assert not same(result.epochs[0], result.epochs[2])


def test_the_base_is_recorded_by_name_and_weights_and_never_by_path(
    trained: Training, base: ModelRef
) -> None:
    result, _ = trained
    for folder in (result.adapter, *result.epochs):
        config = json.loads((folder / "adapter_config.json").read_text())
        assert (config["base_model_name_or_path"], config["revision"]) == (base.id, base.revision)
        about = json.loads((folder / "tunedyno.json").read_text())
        assert about["base"] == {
            "id": base.id,
            "revision": base.revision,
            "fingerprint": base.fingerprint(),
        }
        texts = [
            file.read_text()
            for file in folder.iterdir()
            if file.suffix != ".safetensors" and file.is_file()
        ]
        assert not any(str(base.path) in text or str(result.adapter) in text for text in texts)


def test_the_adapter_is_one_a_server_takes(trained: Training) -> None:
    result, _ = trained
    names = weights(result.adapter).keys()
    assert all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in names)
    assert not any("lm_head" in name or "embed_tokens" in name for name in names)
    projections = {name.split(".")[-3] for name in names}
    assert projections == {
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    }


def test_what_was_learned_is_said_by_plain_transformers(trained: Training, base: ModelRef) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    result, _ = trained
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base.path, dtype="float32"), result.adapter
    )
    prompt = tokenizer.apply_chat_template(
        list(TRAIN[0].messages), add_generation_prompt=True, return_tensors="pt"
    )
    reply = model.generate(**prompt, max_new_tokens=12, do_sample=False)[
        0, prompt["input_ids"].size(1) :
    ]
    assert tokenizer.decode(reply) in {f"{label}<|im_end|>" for label in LABELS}


def test_training_log(trained: Training) -> None:
    result, heard = trained
    log = lines(result.adapter)
    steps = [line for line in log if line["loss"] is not None]
    evaluations = [line for line in log if line["heldout_loss"] is not None]
    assert [line["step"] for line in steps] == list(range(1, 19))  # 24 examples, 4 a step, 3 epochs
    assert [line["step"] for line in evaluations] == [6, 12, 18]
    assert [line["heldout_loss"] for line in evaluations] == result.heldout_loss
    assert all(
        line.keys()
        == {
            "step",
            "epoch",
            "loss",
            "learning_rate",
            "grad_norm",
            "tokens",
            "tokens_per_second",
            "heldout_loss",
            "heldout_score",
        }
        for line in log
    )
    assert steps[-1]["loss"] < steps[0]["loss"] / 4
    # One token a byte, three markers and a role's name a turn: counted by hand.
    frame = len("\x00user\n\x00\n\x00assistant\n\x00")
    assert steps[-1]["tokens"] == 3 * sum(
        frame + len(e.messages[0]["content"]) + len(e.completion) for e in TRAIN
    )
    assert heard.stages == [("finetune", 18, "step")]
    assert heard.steps == 18
    assert any("loss" in note for note in heard.notes)


def test_same_seed_same_adapter(base: ModelRef, tmp_path: Path) -> None:
    def run(name: str, seed: int) -> Path:
        config = CONFIG.model_copy(update={"epochs": 1, "seed": seed, "limit": 8})
        return train(TrainingJob(config, base, TRAIN, [], None), tmp_path / name, Silent()).adapter

    first, again, other = run("first", 0), run("again", 0), run("other", 1)
    assert same(first, again)
    assert not same(first, other)


def test_accumulation_changes_memory_and_not_the_step(base: ModelRef, tmp_path: Path) -> None:
    import torch

    def run(accumulation: int) -> dict[str, Any]:
        settings = {
            "epochs": 1,
            "batch_size": 8,
            "limit": 8,
            "accumulation": accumulation,
            "dtype": "float32",
            "warmup": 0.0,
        }
        out = tmp_path / str(accumulation)
        return weights(
            train(
                TrainingJob(CONFIG.model_copy(update=settings), base, TRAIN, [], None),
                out,
                Silent(),
            ).adapter
        )

    whole, parts = run(1), run(4)
    for name, tensor in whole.items():
        if (
            "lora_B" in name
        ):  # starts at zero, so it is the step itself; Adam's first step magnifies rounding there
            share = ((tensor - parts[name]).abs() < 1e-3).float().mean()
            assert share > 0.99, name
    assert any(torch.count_nonzero(tensor) for name, tensor in whole.items() if "lora_B" in name)


@pytest.mark.parametrize(
    ("schedule", "last"), [("constant", 1.0), ("linear", 1 / 6), ("cosine", 0.067)]
)
def test_learning_rate_follows_its_schedule(
    base: ModelRef, tmp_path: Path, schedule: str, last: float
) -> None:
    config = CONFIG.model_copy(update={"epochs": 1, "schedule": schedule, "warmup": 0.0})
    rates = [
        line["learning_rate"]
        for line in lines(
            train(TrainingJob(config, base, TRAIN, [], None), tmp_path, Silent()).adapter
        )
    ]
    assert rates[0] == pytest.approx(CONFIG.learning_rate)
    assert rates[-1] == pytest.approx(CONFIG.learning_rate * last, rel=0.01)


def test_a_loss_that_is_no_number_stops_and_names_the_batch(base: ModelRef, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"learning_rate": 1e30, "max_grad_norm": 1e9, "warmup": 0.0})
    with pytest.raises(
        SystemFailed, match=r"loss is nan at step \d+; lower finetune\.learning_rate"
    ) as stopped:
        train(TrainingJob(config, base, TRAIN, [], None), tmp_path, Silent())
    assert stopped.value.detail.count("train.jsonl:") == 4
