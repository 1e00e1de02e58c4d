from __future__ import annotations

import ast
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import BadInput
from serve.vllm.lora import RANKS, check_rank, lora_rank, max_lora_rank


def test_a_plain_adapter_is_served_with_its_rank(adapter: Path):
    assert lora_rank("tuned", adapter) == 4


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "biases"),
        ({"modules_to_save": ["lm_head"], "target_modules": ["q_proj"]}, "lm_head"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
    ],
)
def test_what_vllm_would_refuse_is_refused_with_the_reason(
    build_adapter: Callable[..., Path], tmp_path: Path, fields: dict[str, Any], reason: str
):
    with pytest.raises(BadInput, match=rf"variants\.tuned\.adapter.*{reason}.*write merge"):
        lora_rank("tuned", build_adapter(tmp_path, **fields))


def _edited(adapter: Path, folder: Path, **fields: Any) -> Path:
    config = json.loads((adapter / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **fields}))
    (folder / "adapter_model.safetensors").touch()
    return folder


def test_the_highest_rank_of_any_module_counts(adapter: Path, tmp_path: Path):
    assert lora_rank("tuned", _edited(adapter, tmp_path, rank_pattern={"q_proj": 24})) == 24


def test_a_rank_over_vllms_limit_is_refused(adapter: Path, tmp_path: Path):
    with pytest.raises(BadInput, match=r"rank is 1024.*512"):
        lora_rank("tuned", _edited(adapter, tmp_path, r=1024))
    with pytest.raises(BadInput, match=r"rank 1024.*512"):
        check_rank("tuned", 1024)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"r": "8"}, "its rank is 8, and"),
        ({"r": 0}, "its rank is 0, and"),
        ({"rank_pattern": {"q_proj": 0}}, "its rank is 0, and"),
        ({"rank_pattern": ["q_proj"]}, None),
    ],
)
def test_settings_that_vllm_can_not_read(
    adapter: Path, tmp_path: Path, fields: dict[str, Any], reason: str | None
):
    edited = _edited(adapter, tmp_path, **fields)
    if reason is None:
        assert lora_rank("tuned", edited) == 4
        return
    with pytest.raises(BadInput, match=reason):
        lora_rank("tuned", edited)


def test_settings_that_lack_what_vllm_asks_for(adapter: Path, tmp_path: Path):
    edited = _edited(adapter, tmp_path)
    config = json.loads((edited / "adapter_config.json").read_text())
    del config["lora_alpha"]
    (edited / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match="it does not say lora_alpha"):
        lora_rank("tuned", edited)


def test_another_kind_of_adapter_is_refused(adapter: Path, tmp_path: Path):
    with pytest.raises(BadInput, match="IA3 adapter, not LoRA"):
        lora_rank("tuned", _edited(adapter, tmp_path, peft_type="IA3"))


def test_a_folder_that_is_no_adapter(adapter: Path, tmp_path: Path):
    with pytest.raises(BadInput, match=r"no adapter_config\.json"):
        lora_rank("tuned", tmp_path)
    (tmp_path / "adapter_config.json").write_text((adapter / "adapter_config.json").read_text())
    with pytest.raises(BadInput, match=r"no adapter_model\.safetensors"):
        lora_rank("tuned", tmp_path)
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(BadInput, match="not JSON"):
        lora_rank("tuned", tmp_path)


def test_the_ranks_are_the_installed_vllms():
    spec = importlib.util.find_spec("vllm")
    assert spec is not None and spec.origin is not None
    source = (Path(spec.origin).parent / "config" / "lora.py").read_text()
    named = next(
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "MaxLoRARanks"
    )
    assert isinstance(named, ast.Subscript)
    assert ast.literal_eval(named.slice) == RANKS


@given(st.integers(1, 512))
def test_the_servers_rank_holds_the_adapters(rank: int):
    limit = max_lora_rank(rank)
    assert limit in RANKS and limit >= rank
    assert not any(rank <= other < limit for other in RANKS)
