"""What an adapter's settings may be: anything else is named before a library trips over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation.errors import BadInput
from foundation.models.lora import check_settings, is_targeted, of_module

PLAIN = {
    "r": 4,
    "lora_alpha": 8.0,
    "target_modules": ["q_proj"],
    "rank_pattern": {"(q|v)_proj": 2},
    "exclude_modules": None,
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("target_modules", "(q_proj"),
        ("target_modules", ["q_proj", 1]),
        ("exclude_modules", {"q_proj": 1}),
        ("modules_to_save", "lm_head"),
        ("modules_to_save", 1),
        ("rank_pattern", {"q_proj)": 8}),
        ("rank_pattern", {"(?i)q_proj": 8}),
        ("rank_pattern", ["q_proj"]),
        ("alpha_pattern", {"q_proj": "8"}),
        ("alpha_pattern", {"q_proj": float("nan")}),
        ("lora_alpha", None),
        ("lora_alpha", 0),
        ("r", "16"),
        ("r", 10**400),
    ],
)
def test_a_setting_of_another_kind_is_refused(key: str, value: object) -> None:
    file = Path("adapter/adapter_config.json")
    check_settings(file, PLAIN)
    check_settings(file, {})
    with pytest.raises(BadInput, match=rf"adapter_config\.json: {key}: .*; write "):
        check_settings(file, PLAIN | {key: value})


def test_modules_are_named_as_peft_names_them() -> None:
    module = "model.layers.0.self_attn.q_proj"
    assert of_module({"v_proj": 1, "self_attn.q_proj": 2, "q_proj": 3}, module, 4) == 2
    assert of_module({"proj": 1}, module, 4) == of_module(None, module, 4) == 4
    assert (
        is_targeted(["q_proj"], module)
        and is_targeted(r".*\.(q|v)_proj", module)
        and is_targeted([module], module)
    )
    assert (
        not is_targeted(["proj"], module)
        and not is_targeted("q_proj", module)
        and not is_targeted(None, module)
    )
