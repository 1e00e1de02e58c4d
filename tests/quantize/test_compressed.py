"""The writer works on a weight at a time; compressed-tensors on a whole model is its oracle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from foundation.errors import BadInput
from foundation.models.model import ModelRef
from foundation.progress import Silent
from quantize import quantize
from quantize.config import QuantizeConfig
from quantize.layers import quantized_layers
from quantize.methods import Method
from quantize.writers import compressed_tensors
from quantize.writers.shards import ShardWriter
from tests.tiny_model import build_tiny_model

KEEP = ("lm_head", "layers.1.mlp")
PRESETS: dict[Method, str] = {
    "w8a8-int8": "W8A8",
    "w4a16": "W4A16",
    "fp8-dynamic": "FP8_DYNAMIC",
    "nvfp4": "NVFP4A16",
}


@pytest.fixture(scope="module")
def sharded(base: ModelRef, tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    """The same weights in several files: parts of one matrix in vLLM lie in different files."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("sharded")
    AutoModelForCausalLM.from_pretrained(base.path).save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    return ModelRef(base.id, None, folder)


def by_compressed_tensors(source: ModelRef, method: Method, kept: list[str], out: Path) -> ModelRef:
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import (
        QuantizationConfig,
        apply_quantization_config,
        preset_name_to_scheme,
    )
    from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(source.path, dtype="auto")
    scheme = preset_name_to_scheme(PRESETS[method], targets=["Linear"])
    if method == "w4a16":
        scheme.weights.group_size = 64
    apply_quantization_config(
        model, QuantizationConfig(config_groups={"group_0": scheme}, ignore=kept)
    )
    for name, module in model.named_modules():
        if not hasattr(module, "weight_scale"):
            continue
        whole = None
        if method == "nvfp4":
            parent = model.get_submodule(name.rpartition(".")[0])
            names = [n for n, _ in parent.named_children()]
            last = name.rpartition(".")[2]
            fused = next(
                (
                    g
                    for g in (["q_proj", "k_proj", "v_proj"], ["gate_proj", "up_proj"])
                    if last in g
                ),
                [last],
            )
            matrix = torch.cat(
                [parent.get_submodule(n).weight.detach().flatten() for n in fused if n in names]
            ).float()
            whole = generate_gparam(matrix.min(), matrix.max())
            module.weight_global_scale.data.copy_(whole)
        grouped = module.weight.detach().unflatten(
            1, (-1, module.quantization_scheme.weights.group_size or module.in_features)
        )
        scale, _ = calculate_qparams(
            grouped.amin(-1), grouped.amax(-1), module.quantization_scheme.weights, whole
        )
        module.weight_scale.data.copy_(scale)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(out)
    compressor.update_config(str(out))
    return ModelRef(source.id, None, out)


def tensors(model: ModelRef) -> dict[str, torch.Tensor]:
    return {
        name: tensor
        for file in model.path.glob("*.safetensors")
        for name, tensor in load_file(file).items()
    }


def described(model: ModelRef) -> dict[str, Any]:
    config: Any = model.config()["quantization_config"]
    return {**config, "ignore": set(config["ignore"])}


@pytest.mark.parametrize("method", PRESETS)
def test_every_bit_is_that_of_compressed_tensors(
    method: Method, base: ModelRef, sharded: ModelRef, tmp_path: Path
) -> None:
    kept = ["lm_head", *(f"model.layers.1.mlp.{part}_proj" for part in ("gate", "up", "down"))]
    expected = by_compressed_tensors(base, method, kept, tmp_path / "expected")
    for source in (base, sharded):
        checkpoint = quantize(
            source, QuantizeConfig(method=method, keep=KEEP), tmp_path / source.path.name, Silent()
        )
        assert described(checkpoint) == described(expected)
        actual, reference = tensors(checkpoint), tensors(expected)
        assert actual.keys() == reference.keys()
        for name, tensor in reference.items():
            assert actual[name].dtype == tensor.dtype, name
            assert torch.equal(actual[name].view(torch.uint8), tensor.view(torch.uint8)), name
    assert {**checkpoint.config(), "quantization_config": None} == {
        **sharded.config(),
        "quantization_config": None,
    }


def test_what_is_written_in_several_files_is_read_as_one(
    base: ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    whole = quantize(base, QuantizeConfig(method="w8a8-int8"), tmp_path / "whole", Silent())
    monkeypatch.setattr(compressed_tensors, "ShardWriter", lambda out: ShardWriter(out, 20_000))
    parts = quantize(base, QuantizeConfig(method="w8a8-int8"), tmp_path / "parts", Silent())
    index = json.loads((parts.path / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {
        file.name for file in parts.path.glob("*.safetensors")
    }
    assert len(set(index["weight_map"].values())) > 2
    assert index["metadata"]["total_size"] == sum(
        tensor.nbytes for tensor in tensors(parts).values()
    )
    ids = torch.arange(20)[None]
    logits = [
        AutoModelForCausalLM.from_pretrained(model.path)(ids).logits for model in (whole, parts)
    ]
    assert torch.equal(*logits)


def test_weights_are_rounded_in_the_dtype_they_are_served_in(
    base: ModelRef, tmp_path: Path
) -> None:
    """A checkpoint in float32 whose config says bfloat16: transformers and vLLM load bfloat16."""
    wide = ModelRef("test/wide", None, tmp_path / "wide")
    wide.path.mkdir()
    save_file(
        {name: tensor.float() for name, tensor in tensors(base).items()},
        wide.path / "model.safetensors",
    )
    (wide.path / "config.json").write_text(json.dumps(base.config()))
    checkpoint, expected = (
        quantize(m, QuantizeConfig(method="w4a16"), tmp_path / m.id, Silent()) for m in (wide, base)
    )
    for name, tensor in tensors(expected).items():
        assert torch.equal(tensors(checkpoint)[name].to(tensor.dtype), tensor), name


def build(folder: Path, kind: str, **settings: Any) -> ModelRef:
    from transformers import AutoConfig, AutoModelForCausalLM

    small = {
        "vocab_size": 32,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "pad_token_id": None,
        **settings,
    }
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **small)).save_pretrained(folder)
    return ModelRef(f"test/{kind}", None, folder)


LLAMA_AND_ITS_LIKE = [
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3_text",
    "phi3",
    "olmo2",
    "granite",
    "smollm3",
]
OTHERS = ["stablelm", "starcoder2", "falcon", "gpt_neox", "opt"]


@pytest.mark.parametrize("kind", [*LLAMA_AND_ITS_LIKE, *OTHERS])
def test_what_is_quantized_are_the_linear_layers_of_transformers(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    source = build(tmp_path, kind)
    modules = AutoModelForCausalLM.from_pretrained(tmp_path).named_modules()
    linear = {name for name, module in modules if isinstance(module, torch.nn.Linear)}
    kept = {"lm_head", "embed_out"}
    assert quantized_layers(source, kept) == linear - kept != set()


def test_matrices_that_are_no_linear_layers_are_refused_or_kept(tmp_path: Path) -> None:
    experts = {"intermediate_size": 32, "num_key_value_heads": 2, "num_local_experts": 2}
    for kind, settings, matrix in (
        ("gpt2", {}, "attn.c_attn"),
        ("mixtral", experts, "gate|experts"),
    ):
        source = build(tmp_path / kind, kind, **settings)
        with pytest.raises(
            BadInput,
            match=rf"keep: \S*({matrix})\S* of test/{kind} is no linear layer of .* add it",
        ):
            quantize(source, QuantizeConfig(method="w8a8-int8"), tmp_path / "out", Silent())
    keep = ("lm_head", "re:.*(gate|experts).*")
    checkpoint = quantize(
        source, QuantizeConfig(method="w8a8-int8", keep=keep), tmp_path / "out", Silent()
    )
    int8 = [name for name, tensor in tensors(checkpoint).items() if tensor.dtype is torch.int8]
    layers = {name.rpartition(".")[0].rpartition(".")[2] for name in int8}
    assert layers == {"q_proj", "k_proj", "v_proj", "o_proj"}


def test_a_checkpoint_under_other_names_is_refused(base: ModelRef, tmp_path: Path) -> None:
    renamed = ModelRef("test/renamed", None, tmp_path / "renamed")
    renamed.path.mkdir()
    save_file(
        {name.removeprefix("model."): t for name, t in tensors(base).items()},
        renamed.path / "model.safetensors",
    )
    (renamed.path / "config.json").write_text(json.dumps(base.config()))
    with pytest.raises(
        BadInput,
        match=r"its weight files have no model\.layers\.0\.\S+\.weight, a linear layer of LlamaFor",
    ):
        quantize(renamed, QuantizeConfig(method="w8a8-int8"), tmp_path / "out", Silent())


def test_a_head_of_its_own_may_be_quantized(tmp_path: Path) -> None:
    source = build_tiny_model(tmp_path / "untied", tied=False)
    checkpoint = tensors(
        quantize(source, QuantizeConfig(method="w8a8-int8", keep=()), tmp_path / "out", Silent())
    )
    assert checkpoint["lm_head.weight"].dtype is torch.int8
    assert checkpoint["model.embed_tokens.weight"].dtype is torch.bfloat16
