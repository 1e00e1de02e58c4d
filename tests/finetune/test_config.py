from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from finetune.config import FinetuneConfig, names_module
from finetune.names_in_other_tools import ELSEWHERE
from foundation.path_fields import resolved


@pytest.mark.parametrize(
    "key", ["rank", "epochs", "batch_size", "accumulation", "max_length", "limit"]
)
def test_nothing_is_done_zero_times(key: str) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        FinetuneConfig.model_validate({key: 0})


def test_a_batch_falls_into_whole_parts() -> None:
    assert FinetuneConfig(batch_size=16, accumulation=4).accumulation == 4
    with pytest.raises(ValidationError, match="accumulation: 3 parts do not divide a batch of 16"):
        FinetuneConfig(batch_size=16, accumulation=3)


PATHS = [
    f"model.layers.{layer}.{part}"
    for layer in range(12)
    for part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.up_proj")
]


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("q_proj", lambda path: path.endswith(".q_proj")),
        (("q_proj", "v_proj"), lambda path: path[-6:] in ("q_proj", "v_proj")),
        ("self_attn.q_proj", lambda path: path.endswith(".q_proj")),
        (".*(q|v)_proj", lambda path: path[-6:] in ("q_proj", "v_proj")),
        (
            r"model\.layers\.[0-3]\..*q_proj",
            lambda path: path.endswith("q_proj") and int(path.split(".")[2]) < 4,
        ),
        (
            ("up_proj", r".*\.1[01]\..*"),
            lambda path: path.endswith("up_proj") or int(path.split(".")[2]) > 9,
        ),
        ("q_pro.", lambda path: False),  # a pattern matches the whole path
        ("x|q_proj", lambda path: False),
    ],
)
def test_what_names_and_patterns_mean_is_what_peft_makes_of_them(
    asked: str | tuple[str, ...], meant: Callable[[str], bool]
) -> None:
    """peft: a text has to match the whole path; a list's entry is the path or its last part."""
    config = FinetuneConfig(target_modules=asked)
    modules = config.modules
    for path in PATHS:
        ours = any(names_module(entry, path) for entry in config.entries)
        peft = (
            re.fullmatch(modules, path) is not None
            if isinstance(modules, str)
            else any(path == each or path.endswith(f".{each}") for each in modules)
        )
        assert ours == peft == meant(path), path


def test_all_linear_is_peft_s_word() -> None:
    assert FinetuneConfig().modules == "all-linear" and FinetuneConfig().entries == []


@pytest.mark.parametrize("modules", ["", (), ("q_proj", ""), "(q|v"])
def test_what_is_neither_name_nor_pattern_is_refused(modules: str | tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="target_modules"):
        FinetuneConfig(target_modules=modules)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_steps": 10, "epochs": 3}, "max_steps: 10 steps or 3 epochs; write one of them"),
        ({"eval_steps": 10, "eval_limit": 0}, "eval_limit: patience, eval_steps"),
        ({"method": "pissa", "warm_start": "a"}, "warm_start: pissa starts"),
        ({"learning_rate": float("inf")}, "learning_rate"),
        ({"alpha": float("nan")}, "alpha"),
        ({"optimizer": "adamw_16bit"}, "optimizer"),
    ],
)
def test_settings_that_can_not_be(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        FinetuneConfig.model_validate(settings)


def test_how_long_a_training_is() -> None:
    assert FinetuneConfig(epochs=3, limit=50).examples_seen(80) == 150
    assert FinetuneConfig(max_steps=7, batch_size=4, limit=50).examples_seen(80) == 28
    assert (FinetuneConfig(epochs=3).length, FinetuneConfig(max_steps=7).length) == (
        "3 epochs",
        "7 steps",
    )


def test_paths_are_the_experiment_s_own_and_not_recorded(tmp_path: Path) -> None:
    config = resolved(
        FinetuneConfig.model_validate({"chat_template": "mine.jinja", "warm_start": "~/adapter"}),
        tmp_path,
    )
    assert config.files == {
        "chat_template": tmp_path / "mine.jinja",
        "warm_start": Path.home() / "adapter",
    }
    assert (config.recorded["chat_template"], config.recorded["warm_start"]) == (
        "mine.jinja",
        "adapter",
    )


def test_the_names_of_other_trainers_lead_to_ours() -> None:
    """No key here is called so, and what is to be written is."""
    ours = FinetuneConfig.model_fields
    assert not set(ELSEWHERE) & set(ours)
    for theirs, words in ELSEWHERE.items():
        action, _, rest = words.partition(" ")
        assert action in ("write", "leave"), theirs
        assert action == "leave" or re.split(r"\W", rest)[0] in {*ours, "prompts"}, theirs
