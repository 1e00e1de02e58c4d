"""A server loads the plugin for bitsandbytes only if its weights need it."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from foundation.models.model import ModelRef
from serve.vllm import engine_record
from serve.vllm.plugins import VARIABLE, is_in_bitsandbytes, other_names, plugin_variables


def model(folder: Path, **config: object) -> ModelRef:
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    return ModelRef("m", "r", folder)


NF4 = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
INT8 = {"quantization_config": {"quant_method": "compressed-tensors"}}


def test_all_plugins_but_those_for_bitsandbytes_are_named() -> None:
    plugins = [
        EntryPoint("bitsandbytes", "vllm_bnb_plugin:register", "vllm.general_plugins"),
        EntryPoint("lora_filesystem_resolver", "vllm.plugins.x:register", "vllm.general_plugins"),
        EntryPoint("mine", "mine:register", "vllm.platform_plugins"),
        EntryPoint(engine_record.PLUGIN, "serve.vllm:x", "vllm.stat_logger_plugins"),
    ]
    assert other_names(plugins) == ["lora_filesystem_resolver", "mine"]


@pytest.mark.parametrize(
    ("config", "arguments", "needs_it"),
    [
        ({}, (), False),
        (INT8, ("--model=/models/bitsandbytes-free",), True),  # rather once too often
        (INT8, ("--model=m",), False),
        (NF4, ("--model=m",), True),
        ({}, ("--model=m", "--quantization=bitsandbytes"), True),
        ({}, ("--model=m", "--load-format=bitsandbytes"), True),
    ],
)
def test_weights_of_bitsandbytes_are_known_as_stored_and_as_loaded(
    tmp_path: Path, config: dict[str, object], arguments: tuple[str, ...], needs_it: bool
) -> None:
    assert is_in_bitsandbytes(model(tmp_path, **config), arguments) == needs_it


def test_a_server_here_is_spared_the_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    names = plugin_variables(model(tmp_path), ())[VARIABLE].split(",")
    assert "bitsandbytes" not in names and "lora_filesystem_resolver" in names
    assert plugin_variables(model(tmp_path, **NF4), ()) == {}
    monkeypatch.setenv(VARIABLE, "mine")
    assert plugin_variables(model(tmp_path), ()) == {}
