"""Training options: own templates, modules by pattern, steps, optimizers; and failed trainings."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jinja2
import pytest

from finetune import check, train
from finetune.config import FinetuneConfig
from finetune.data import prepare
from finetune.job import TrainingJob
from foundation.errors import BadInput, SystemFailed
from foundation.models.model import ModelRef
from foundation.progress import Silent
from tests.finetune.test_train import HELDOUT, TRAIN, lines, same, weights

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] | "
    "upper }}: {{ message['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>ASSISTANT: {% endif %}"
)
STEADY: dict[str, Any] = {
    "rank": 4,
    "batch_size": 4,
    "schedule": "constant",
    "warmup": 0.0,
    "dtype": "float32",
}
ONE_STEP: dict[str, Any] = STEADY | {"limit": 4, "max_steps": 1}


def test_a_template_of_one_s_own_words_what_is_learned_and_goes_with_the_adapter(
    base: ModelRef, tmp_path: Path
) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text(TEMPLATE)
    config = FinetuneConfig.model_validate({**STEADY, "chat_template": str(file)})
    prepared = prepare(TrainingJob(config, base, TRAIN, HELDOUT, None))
    for example, tokens in zip(TRAIN, prepared.train, strict=True):
        prompt = jinja2.Template(TEMPLATE).render(
            messages=example.messages, add_generation_prompt=True
        )
        spoken = (
            prepared.tokenizer.decode(tokens.prompt),
            prepared.tokenizer.decode(tokens.completion),
        )
        assert spoken == (prompt, f"{example.completion}<|im_end|>")
    result = train(TrainingJob(config, base, TRAIN, HELDOUT, None), tmp_path / "adapter", Silent())
    for folder in (result.adapter, *result.epochs):
        assert (folder / "chat_template.jinja").read_text() == TEMPLATE
    about = json.loads((result.adapter / "tunedyno.json").read_text())
    assert about["config"]["chat_template"] == "mine.jinja"
    assert about["files"] == {"chat_template": hashlib.sha256(TEMPLATE.encode()).hexdigest()}
    assert "| `chat_template` | mine.jinja |" in (result.adapter / "README.md").read_text()
    assert str(tmp_path) not in (result.adapter / "tunedyno.json").read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no such file; write the path of a jinja template"),
        ("  \n", "empty; write a jinja template"),
        (
            "{% for message in messages %}\n{{ message.content }",
            "mine.jinja:2: not a jinja template",
        ),
        ("{{ raise_exception('no') }}", "the model's chat template refuses these messages"),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "writes no end of turn"),
    ],
)
def test_a_template_that_can_not_be_trained_with_is_refused(
    base: ModelRef, tmp_path: Path, text: str | None, words: str
) -> None:
    file = tmp_path / "mine.jinja"
    if text is not None:
        file.write_text(text)
    with pytest.raises(BadInput, match=words):
        check(TrainingJob(FinetuneConfig(chat_template=file), base, TRAIN, HELDOUT, None))


@pytest.mark.parametrize(
    ("modules", "adapted"),
    [
        (
            ".*(q|v)_proj",
            {f"model.layers.{i}.self_attn.{part}" for i in (0, 1) for part in ("q_proj", "v_proj")},
        ),
        (r"model\.layers\.1\..*_proj", None),
        (
            ("self_attn.k_proj", r".*\.0\.mlp\.up_proj"),
            {
                "model.layers.0.mlp.up_proj",
                "model.layers.0.self_attn.k_proj",
                "model.layers.1.self_attn.k_proj",
            },
        ),
    ],
    ids=["pattern", "layer", "list"],
)
def test_modules_by_pattern(
    base: ModelRef, tmp_path: Path, modules: object, adapted: set[str] | None
) -> None:
    config = FinetuneConfig(**ONE_STEP, target_modules=modules)
    result = train(TrainingJob(config, base, TRAIN, [], None), tmp_path, Silent())
    layers = {
        name.removeprefix("base_model.model.").partition(".lora_")[0]
        for name in weights(result.adapter)
    }
    assert layers == adapted or (
        adapted is None and len(layers) == 7 and all(".1." in layer for layer in layers)
    )


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        (".*_pro", "has no linear layer that matches '.*_pro'"),
        (".*", "matches embed_tokens: no server takes"),
        (("q_proj", "lm_head"), "lm_head: no server takes"),
        ("self_atn.q_proj", "has no module 'self_atn.q_proj'"),
    ],
)
def test_patterns_are_checked_against_the_weights(
    base: ModelRef, modules: object, words: str
) -> None:
    with pytest.raises(BadInput) as refused:
        check(TrainingJob(FinetuneConfig(target_modules=modules), base, TRAIN, HELDOUT, None))
    assert words in str(refused.value)


def test_evaluation_every_so_many_steps_is_a_finer_curve_of_the_same_training(
    base: ModelRef, tmp_path: Path
) -> None:
    config = FinetuneConfig(**STEADY, epochs=2)  # 6 steps an epoch
    coarse = train(TrainingJob(config, base, TRAIN, HELDOUT, None), tmp_path / "coarse", Silent())
    fine = train(
        TrainingJob(config.model_copy(update={"eval_steps": 2}), base, TRAIN, HELDOUT, None),
        tmp_path / "fine",
        Silent(),
    )

    def curve(adapter: Path) -> dict[int, float]:
        return {
            line["step"]: line["heldout_loss"]
            for line in lines(adapter)
            if line["heldout_loss"] is not None
        }

    assert list(curve(fine.adapter)) == [2, 4, 6, 8, 10, 12]
    assert curve(coarse.adapter) == {step: curve(fine.adapter)[step] for step in (6, 12)}
    assert fine.heldout_loss == coarse.heldout_loss == list(curve(coarse.adapter).values())
    assert fine.best == coarse.best and same(fine.adapter, coarse.adapter)


def test_so_many_steps_are_done_and_recorded(base: ModelRef, tmp_path: Path) -> None:
    config = FinetuneConfig(**STEADY, max_steps=8)  # an epoch of 6 and a third of one
    result = train(TrainingJob(config, base, TRAIN, HELDOUT, None), tmp_path, Silent())
    assert [line["step"] for line in lines(result.adapter) if line["loss"] is not None] == list(
        range(1, 9)
    )
    assert [folder.name for folder in result.epochs] == ["epoch-1", "epoch-2"] and len(
        result.heldout_loss
    ) == 2
    about = json.loads((result.epochs[1] / "tunedyno.json").read_text())
    assert (about["steps"], about["epochs"], about["untouched_layers"]) == (8, 1.3333, [])
    assert "8 steps (1.3333 epochs)" in (result.adapter / "README.md").read_text()


def outputs(adapter: Path) -> dict[str, Any]:
    return {name: tensor for name, tensor in weights(adapter).items() if ".lora_B." in name}


def test_the_first_step_is_the_optimizer_s(base: ModelRef, tmp_path: Path) -> None:
    """B starts at zero. A step of SGD makes it -lr x gradient; lion and Adam take its sign."""
    import torch

    rate = 0.01
    by_optimizer = {
        name: outputs(
            train(
                TrainingJob(
                    FinetuneConfig(
                        **ONE_STEP, optimizer=name, learning_rate=rate, max_grad_norm=1e9
                    ),
                    base, TRAIN, [], None,
                ),
                tmp_path / name, Silent(),
            ).adapter
        )
        for name in ("sgd", "lion", "adamw", "adafactor")
    }  # fmt: skip
    for name, gradient in by_optimizer["sgd"].items():
        torch.testing.assert_close(
            by_optimizer["lion"][name], rate * gradient.sign(), rtol=1e-5, atol=0
        )
        clear = gradient.abs() > 1e-4 * rate
        assert clear.any()
        torch.testing.assert_close(
            by_optimizer["adamw"][name][clear], rate * gradient.sign()[clear], rtol=1e-2, atol=0
        )
        assert not torch.equal(by_optimizer["adafactor"][name], gradient)


@pytest.mark.slow
def test_an_eight_bit_optimizer_goes_where_the_whole_one_goes(
    base: ModelRef, tmp_path: Path
) -> None:
    config = FinetuneConfig(**STEADY, epochs=2, learning_rate=1e-2)
    whole = train(TrainingJob(config, base, TRAIN, HELDOUT, None), tmp_path / "whole", Silent())
    eight = train(
        TrainingJob(
            config.model_copy(update={"optimizer": "adamw_8bit"}), base, TRAIN, HELDOUT, None
        ),
        tmp_path / "8",
        Silent(),
    )
    assert eight.heldout_loss == pytest.approx(whole.heldout_loss, rel=0.2) and not same(
        eight.adapter, whole.adapter
    )


def test_a_paged_optimizer_needs_a_gpu(base: ModelRef, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(
        BadInput, match=r"finetune\.optimizer: paged_adamw_8bit pages .* write adamw"
    ):
        check(TrainingJob(FinetuneConfig(optimizer="paged_adamw_8bit"), base, TRAIN, HELDOUT, None))


def test_a_training_of_one_step_is_not_all_warm_up(base: ModelRef, tmp_path: Path) -> None:
    config = FinetuneConfig(rank=4, limit=4, dtype="float32", warmup=0.5)
    result = train(TrainingJob(config, base, TRAIN, [], None), tmp_path, Silent())
    assert all(tensor.any() for tensor in outputs(result.adapter).values())


@pytest.mark.parametrize(
    ("settings", "heldout", "words"),
    [
        (
            {"learning_rate": 1e-60},
            [],
            "1 steps changed no weight of the adapter, so it is the base model; "
            "raise finetune.lear",
        ),
        (
            {"learning_rate": 1e39},
            [],
            "holds values that are no numbers after step 1; lower finetune.learning_rate",
        ),
        (
            {"learning_rate": 1e30},
            HELDOUT,
            "training stopped: the held-out loss is (nan|inf) after step 1; lower finetune",
        ),
    ],
    ids=["nothing learned", "no numbers", "held-out"],
)
def test_a_training_that_came_to_nothing_fails(
    base: ModelRef, tmp_path: Path, settings: dict[str, Any], heldout: list[Any], words: str
) -> None:
    with pytest.raises(SystemFailed, match=words):
        train(
            TrainingJob(FinetuneConfig(**{**ONE_STEP, **settings}), base, TRAIN, heldout, None),
            tmp_path,
            Silent(),
        )
    assert not (tmp_path / "adapter_model.safetensors").exists()


def test_layers_that_learn_nothing_are_named(
    base: ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a base whose lower layers get no gradient would have it."""
    from finetune import build

    said: list[str] = []

    class Listening(Silent):
        def log(self, line: str) -> None:
            said.append(line)

    def half(*arguments: Any) -> Any:
        trainer = whole(*arguments)
        for name, parameter in trainer.model.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and ".layers.0." not in name)
        return trainer

    whole = build.build_trainer
    monkeypatch.setattr(build, "build_trainer", half)
    result = train(
        TrainingJob(FinetuneConfig(**ONE_STEP), base, TRAIN, [], None), tmp_path, Listening()
    )
    assert any("7 of 14 adapted layers learned nothing (model.layers.0." in line for line in said)
    assert len(json.loads((result.adapter / "tunedyno.json").read_text())["untouched_layers"]) == 7
