"""What is written is read back: damage of every kind is seen, whatever library wrote the files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from foundation.errors import BadInput, SystemFailed
from foundation.models.model import ModelRef
from foundation.progress import Silent
from quantize import measure_recovery, merge, quantize
from quantize.checkpoint_check import check_quantized
from quantize.config import QuantizeConfig
from quantize.methods import Method
from quantize.plan import plan_quantization
from tests.quantize.conftest import build_adapter
from tests.quantize.test_recovery import HELDOUT, STYLE
from tests.tiny_model import build_tiny_model, write_tokenizer

LAYER = "model.layers.1.mlp.gate_proj"
KEPT = "model.layers.0.mlp.down_proj.weight"
METHODS: tuple[Method, ...] = ("w8a8-int8", "w4a16", "fp8-dynamic", "nvfp4", "bnb-nf4", "bnb-int8")
WEIGHT = dict.fromkeys(METHODS, "weight") | {"w4a16": "weight_packed", "nvfp4": "weight_packed"}
SCALE = {"bnb-nf4": "weight.absmax", "bnb-int8": "SCB"}

Weights = dict[str, torch.Tensor]


def settings(method: Method) -> QuantizeConfig:
    return QuantizeConfig(method=method, keep=("lm_head", "layers.0.mlp"))


@pytest.fixture(scope="module")
def written(base: ModelRef, tmp_path_factory: pytest.TempPathFactory) -> dict[Method, ModelRef]:
    folder = tmp_path_factory.mktemp("quantized")
    return {
        method: quantize(base, settings(method), folder / method, Silent()) for method in METHODS
    }


def damaged(model: ModelRef, folder: Path, change: Callable[[Weights], object]) -> ModelRef:
    copy = ModelRef(model.id, None, Path(shutil.copytree(model.path, folder / "copy")))
    weights = load_file(copy.path / "model.safetensors")
    change(weights)
    save_file(weights, copy.path / "model.safetensors", metadata={"format": "pt"})
    return copy


def check(base: ModelRef, method: Method, model: ModelRef, **otherwise: Any) -> None:
    config = settings(method).model_copy(update=otherwise)
    check_quantized(plan_quantization(base, config), model)


def negate_one(weights: Weights, name: str) -> None:
    """Negates the second of two 4-bit numbers in a byte, or one number."""
    flat = weights[name].view(torch.uint8).flatten()
    flat[5] ^= 0x80
    weights[name] = flat.view(weights[name].dtype).reshape(weights[name].shape)


@pytest.mark.parametrize("method", METHODS)
def test_what_was_written_passes_and_damage_does_not(
    written: dict[Method, ModelRef], base: ModelRef, tmp_path: Path, method: Method
) -> None:
    check(base, method, written[method])
    weight, scale = f"{LAYER}.{WEIGHT[method]}", f"{LAYER}.{SCALE.get(method, 'weight_scale')}"

    def refused(words: str, change: Callable[[Weights], object]) -> None:
        with pytest.raises(SystemFailed, match=words):
            check(base, method, damaged(written[method], tmp_path, change))
        shutil.rmtree(tmp_path / "copy")

    refused("gate_proj is further from the source than", lambda w: negate_one(w, weight))
    refused(
        "gate_proj is further from the source than",
        lambda w: w.update({scale: (1.25 * w[scale].float()).to(w[scale].dtype)}),
    )
    refused(
        "gate_proj is further from the source than",
        lambda w: w.update({weight: w[weight].roll(1, dims=0)}),
    )
    refused(r"gate_proj.* is not there|gate_proj.*was not written", lambda w: w.pop(scale))
    refused(
        "gate_proj.*(was not written|is not there)",
        lambda w: [w.pop(n) for n in list(w) if n.startswith(LAYER)],
    )
    refused(
        "down_proj.weight is kept in full precision, and is not the source's own",
        lambda w: w[KEPT].mul_(1.01),
    )
    refused(r"norm\.weight of the source was not written", lambda w: w.pop("model.norm.weight"))
    refused("model.extra was written, and", lambda w: w.update({"model.extra": torch.ones(1)}))


@pytest.mark.parametrize("method", METHODS)
def test_the_config_says_what_was_asked_for(
    written: dict[Method, ModelRef], base: ModelRef, tmp_path: Path, method: Method
) -> None:
    others: dict[Method, Method] = {
        "w8a8-int8": "fp8-dynamic", "fp8-dynamic": "w8a8-int8", "w4a16": "nvfp4", "nvfp4": "w4a16",
        "bnb-nf4": "bnb-int8", "bnb-int8": "bnb-nf4",
    }  # fmt: skip
    with pytest.raises(SystemFailed, match=r"config\.json: \w+ is .*, and .* was asked for"):
        check(base, others[method], written[method])
    with pytest.raises(
        SystemFailed, match=r"layers.1.* is kept in full precision, and not named there"
    ):
        check(base, method, written[method], keep=("lm_head", "layers.0.mlp", "layers.1.mlp"))
    copy = damaged(written[method], tmp_path, lambda weights: None)
    (copy.path / "config.json").write_text(json.dumps(base.config()))
    with pytest.raises(SystemFailed, match="has no quantization_config"):
        check(base, method, copy)


def test_group_sizes_have_to_agree(written: dict[Method, ModelRef], base: ModelRef) -> None:
    with pytest.raises(SystemFailed, match="group_size is 64, and 32 was asked for"):
        check(base, "w4a16", written["w4a16"], group_size=32)


def test_a_learned_rounding_is_near_as_a_whole_but_for_rows_and_columns_that_were_scaled(
    base: ModelRef, tmp_path: Path
) -> None:
    """By what GPTQ, AWQ and SmoothQuant may do to a weight, and what no algorithm does."""
    generator = torch.Generator().manual_seed(1)
    rows, columns = (0.5 + torch.rand(size, generator=generator) for size in ((128, 1), (1, 64)))
    weights = load_file(base.path / "model.safetensors")
    scaled = {
        n: (rows * w * columns).bfloat16() if n == f"{LAYER}.weight" else w
        for n, w in weights.items()
    }
    other = ModelRef("scaled", None, Path(shutil.copytree(base.path, tmp_path / "scaled")))
    save_file(scaled, other.path / "model.safetensors", metadata={"format": "pt"})
    model = quantize(other, settings("w8a8-int8"), tmp_path / "out", Silent())
    check(base, "w8a8-int8", model, algorithm="smoothquant")
    with pytest.raises(
        SystemFailed,
        match=r"gate_proj is off by \d+% of the source's weight; gptq leaves 5% at most",
    ):
        check(base, "w8a8-int8", model, algorithm="gptq")
    copy = damaged(
        model,
        tmp_path,
        lambda w: w.update({f"{LAYER}.weight": w[f"{LAYER}.weight"].roll(1, dims=1)}),
    )
    with pytest.raises(SystemFailed, match="gate_proj is off by"):
        check(base, "w8a8-int8", copy, algorithm="smoothquant")
    shutil.rmtree(copy.path)
    copy = damaged(model, tmp_path, lambda w: w["model.layers.0.input_layernorm.weight"].mul_(0.5))
    check(base, "w8a8-int8", copy, algorithm="smoothquant")
    with pytest.raises(SystemFailed, match=r"input_layernorm\.weight is kept in full precision"):
        check(other, "w8a8-int8", copy, algorithm="gptq")
    shutil.rmtree(copy.path)
    copy = damaged(
        model, tmp_path, lambda w: w["model.layers.0.input_layernorm.weight"].mul_(float("nan"))
    )
    with pytest.raises(SystemFailed, match=r"input_layernorm\.weight is kept in full precision"):
        check(base, "w8a8-int8", copy, algorithm="smoothquant")


@pytest.fixture(scope="module")
def leftover(base: ModelRef, tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    """A model folder in which an adapter, a trainer's state and a recipe were left behind."""
    folder = tmp_path_factory.mktemp("leftover") / "model"
    shutil.copytree(base.path, folder)
    for file in build_adapter(base, folder.parent / "adapter").iterdir():
        if file.is_file():
            shutil.copy(file, folder / file.name)
    for name in (
        "optimizer.pt",
        "trainer_state.json",
        "recovery.json",
        "training_args.bin",
        "README.md",
    ):
        (folder / name).write_text("{}")
    return ModelRef(base.id, None, folder)


FILES = {
    "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors",
    "recipe.json", "tokenizer.json", "tokenizer_config.json",
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_what_was_left_in_a_model_folder_is_neither_loaded_nor_carried_along(
    leftover: ModelRef,
    base: ModelRef,
    written: dict[Method, ModelRef],
    tmp_path: Path,
    method: Method,
) -> None:
    model = quantize(leftover, settings(method), tmp_path / "out", Silent())
    assert {file.name for file in model.path.iterdir()} == FILES
    ours, theirs = (load_file(m.path / "model.safetensors") for m in (model, written[method]))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_recovery_reads_the_folders_own_weights(
    leftover: ModelRef, base: ModelRef, written: dict[Method, ModelRef]
) -> None:
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(leftover.path / file, written["w4a16"].path / file)
    clean = measure_recovery(base, written["w8a8-int8"], HELDOUT, STYLE, Silent())
    assert (
        measure_recovery(leftover, written["w8a8-int8"], HELDOUT, STYLE, Silent()).all_text
        == clean.all_text
    )
    with_adapter = measure_recovery(base, written["w4a16"], HELDOUT, STYLE, Silent())
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        (written["w4a16"].path / file).unlink()
    assert measure_recovery(base, written["w4a16"], HELDOUT, STYLE, Silent()) == with_adapter


def test_an_adapter_is_merged_into_the_base_and_not_into_what_was_left_beside_it(
    leftover: ModelRef, tmp_path: Path
) -> None:
    # The merge is held against the files: one on top of the left adapter would be refused.
    merged = merge(
        leftover, build_adapter(leftover, tmp_path / "adapter"), tmp_path / "out", Silent()
    )
    assert {file.name for file in merged.path.iterdir()} == FILES


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        (
            "model.layers.1.mlp.up_proj.weight",
            None,
            "lack model.layers.1.mlp.up_proj.weight, which LlamaForCausalLM needs",
        ),
        (
            "model.extra.weight",
            torch.ones(2),
            "hold model.extra.weight, which LlamaForCausalLM has no place for",
        ),
        (
            "model.norm.weight",
            torch.ones(63),
            r"hold model.norm.weight .63,. .not .64,.., which does not fit its config.json",
        ),
    ],
)
def test_a_model_that_would_begin_with_random_weights_is_refused(
    base: ModelRef,
    adapter: Path,
    tmp_path: Path,
    name: str,
    tensor: torch.Tensor | None,
    words: str,
) -> None:
    model = damaged(
        base, tmp_path, lambda w: w.pop(name) if tensor is None else w.update({name: tensor})
    )
    with pytest.raises(BadInput, match=words):
        merge(
            model,
            build_adapter(base, tmp_path / "adapter", fingerprint=False),
            tmp_path / "out",
            Silent(),
        )
    with pytest.raises(BadInput, match=words):
        quantize(model, QuantizeConfig(method="bnb-nf4"), tmp_path / "out", Silent())


def test_gpt2_in_the_formats_of_bitsandbytes(tmp_path: Path) -> None:
    """Its layers hold (in, out), and bitsandbytes turns them."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path / "gpt2"
    folder.mkdir()
    GPT2LMHeadModel(
        GPT2Config(vocab_size=write_tokenizer(folder), n_embd=64, n_layer=1, n_head=2)
    ).save_pretrained(folder)
    for method in ("bnb-nf4", "bnb-int8"):
        quantize(
            ModelRef("gpt2", None, folder),
            QuantizeConfig(method=method),
            tmp_path / method,
            Silent(),
        )


def test_layers_that_bitsandbytes_passes_over_are_not_taken_for_quantized(tmp_path: Path) -> None:
    """Falcon's layers have a class of their own: its checkpoint would be the unquantized model."""
    from transformers import FalconConfig, FalconForCausalLM

    folder = tmp_path / "falcon"
    folder.mkdir()
    config = FalconConfig(
        vocab_size=write_tokenizer(folder),
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    FalconForCausalLM(config).save_pretrained(folder)
    with pytest.raises(
        BadInput,
        match=r"keep: bnb-nf4 leaves transformer\.h\.0\..* and 3 more of falcon in full precision",
    ):
        quantize(
            ModelRef("falcon", None, folder),
            QuantizeConfig(method="bnb-nf4"),
            tmp_path / "out",
            Silent(),
        )


def test_weights_that_are_stored_otherwise_than_the_config_says(tmp_path: Path) -> None:
    """float32 in a file whose config says bfloat16: what is loaded, and rounded, is bfloat16."""
    base = build_tiny_model(tmp_path / "base", dtype="float32", initializer_range=0.2)
    (base.path / "config.json").write_text(json.dumps(base.config() | {"dtype": "bfloat16"}))
    for method in METHODS:
        quantize(base, QuantizeConfig(method=method), tmp_path / method, Silent())
