"""A model folder against its config.json: what libraries fill up or read otherwise is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from foundation.errors import BadInput
from foundation.models.checkpoint import check_checkpoint
from foundation.models.model import ModelRef, is_causal

Shapes = dict[str, tuple[int, ...]]
LAYER: Shapes = {
    "self_attn.q_proj": (8, 8),
    "self_attn.k_proj": (4, 8),
    "self_attn.v_proj": (4, 8),
    "self_attn.o_proj": (8, 8),
    "mlp.gate_proj": (16, 8),
    "mlp.up_proj": (16, 8),
    "mlp.down_proj": (8, 16),
    "input_layernorm": (8,),
}
CONFIG = {
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 2,
    "vocab_size": 24,
    "tie_word_embeddings": True,
}


def tensors() -> Shapes:
    layers = {
        f"model.layers.{i}.{name}.weight": shape for i in (0, 1) for name, shape in LAYER.items()
    }
    return layers | {"model.embed_tokens.weight": (24, 8), "model.norm.weight": (8,)}


def write(folder: Path, shapes: Shapes, name: str = "model.safetensors", **config: Any) -> ModelRef:
    folder.mkdir(exist_ok=True)
    save_file(
        {tensor: np.zeros(shape, np.float16) for tensor, shape in shapes.items()}, folder / name
    )
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    return ModelRef("m", None, folder)


@pytest.mark.parametrize(
    "config", [{}, {"head_dim": 4}, {"num_nextn_predict_layers": 1, "num_hidden_layers": 1}]
)
def test_a_whole_model(tmp_path: Path, config: dict[str, Any]):
    check_checkpoint(write(tmp_path / "m", tensors(), **config))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (
            {"num_hidden_layers": 3},
            r"num_hidden_layers is 3, and the weight files have no model\.layers\.2",
        ),
        (
            {"num_hidden_layers": 1},
            r"num_hidden_layers is 1, and .* model\.layers\.1 too; write num_hidden_layers: 2",
        ),
        (
            {"vocab_size": 32},
            r"vocab_size is 32, and model\.embed_tokens\.weight has 24 rows; write vocab_size: 24",
        ),
        (
            {"hidden_size": 16, "head_dim": 4},
            r"down_proj\.weight is 16 x 16, and the file has 8 x 16",
        ),
        ({"num_key_value_heads": 2}, r"k_proj\.weight is 8 x 8, and the file has 4 x 8"),
        ({"intermediate_size": 32}, r"mlp\.\w+_proj\.weight is .*32"),
        (
            {"tie_word_embeddings": False},
            r"tie_word_embeddings is false, and the weight files have no lm_head\.weight",
        ),
    ],
)
def test_a_config_that_is_not_that_of_the_weights(
    tmp_path: Path, config: dict[str, Any], says: str
):
    with pytest.raises(BadInput, match=says):
        check_checkpoint(write(tmp_path / "m", tensors(), **config))


def without(name: str) -> Shapes:
    return {tensor: shape for tensor, shape in tensors().items() if tensor != name}


def test_a_tensor_that_is_lost(tmp_path: Path):
    with pytest.raises(
        BadInput, match=r"no model\.layers\.1\.mlp\.down_proj\.weight, which other layers have"
    ):
        check_checkpoint(write(tmp_path / "m", without("model.layers.1.mlp.down_proj.weight")))


def test_layers_that_differ_by_design_are_taken_as_they_are(tmp_path: Path):
    """A mixture whose first layer is dense: nothing is missing there."""
    mixture = {f"model.layers.1.mlp.experts.{e}.w1.weight": (16, 8) for e in (0, 1)}
    shapes = without("model.layers.1.mlp.down_proj.weight") | mixture
    check_checkpoint(
        write(
            tmp_path / "m",
            shapes,
            model_type="mixture",
            num_key_value_heads=2,
            intermediate_size=None,
        )
    )


def test_a_layer_kept_in_full_precision_is_no_loss(tmp_path: Path):
    packed = {
        name.replace("1.mlp.up_proj.weight", "1.mlp.up_proj.weight_packed"): s
        for name, s in tensors().items()
    }
    check_checkpoint(
        write(tmp_path / "m", packed, quantization_config={"quant_method": "compressed-tensors"})
    )


def test_layers_may_be_counted_under_two_names(tmp_path: Path):
    """One counts blocks, the other what is in them: the files hold to either."""
    check_checkpoint(
        write(tmp_path / "m", tensors(), model_type="own", num_hidden_layers=4, num_layers=2)
    )
    with pytest.raises(
        BadInput, match=r"num_hidden_layers is 4, and the weight files have no model\.layers\.2"
    ):
        check_checkpoint(write(tmp_path / "m", tensors(), model_type="own", num_hidden_layers=4))


def test_an_output_head_beside_tied_embeddings(tmp_path: Path):
    """vLLM loads one over the other, transformers the other over the one."""
    head = tensors() | {"lm_head.weight": (24, 8)}
    model = write(tmp_path / "m", head)
    check_checkpoint(model)  # the same numbers
    weights = {name: np.zeros(shape, np.float16) for name, shape in head.items()}
    weights["lm_head.weight"][23, 7] = 1
    save_file(weights, model.path / "model.safetensors")
    with pytest.raises(
        BadInput,
        match=r"tie_word_embeddings is true, and .* another lm_head\.weight .*write tie_word_emb",
    ):
        check_checkpoint(model)
    (model.path / "config.json").write_text(json.dumps(CONFIG | {"tie_word_embeddings": False}))
    check_checkpoint(model)


def test_an_adapter_left_in_the_folder(tmp_path: Path):
    model = write(tmp_path / "m", tensors())
    (model.path / "adapter_config.json").write_text("{}")
    with pytest.raises(
        BadInput, match=r"adapter_config\.json beside the model.*a folder of their own"
    ):
        check_checkpoint(model)


@pytest.mark.parametrize("name", ["consolidated.safetensors", "adapter_model.safetensors"])
def test_other_weights_that_vllm_would_read(tmp_path: Path, name: str):
    model = write(tmp_path / "m", tensors())
    save_file({"w": np.zeros(1)}, model.path / name)
    with pytest.raises(
        BadInput, match=rf"holds {name} beside model\.safetensors.*move it elsewhere"
    ):
        check_checkpoint(model)


@pytest.mark.parametrize("name", ["tokenizer.json", "generation_config.json"])
def test_settings_that_are_cut_short(tmp_path: Path, name: str):
    model = write(tmp_path / "m", tensors())
    (model.path / name).write_text('{"a": ')
    with pytest.raises(BadInput, match=rf"{name}: not JSON .*download or copy the model again"):
        check_checkpoint(model)


def test_pickles_beside_the_weights_are_left_alone(tmp_path: Path):
    model = write(tmp_path / "m", tensors())
    for name in ("optimizer.pt", "training_args.bin"):
        (model.path / name).write_bytes(b"pickle")
    check_checkpoint(model)


def cut(folder: Path) -> None:
    file = folder / "model-00002-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def unnamed(folder: Path) -> None:
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    del index["weight_map"]["model.norm.weight"]
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def elsewhere(folder: Path) -> None:
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["model.norm.weight"] = "model-00001-of-00002.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut, r"model-00002-of-00002\.safetensors: not a safetensors file"),
        (unnamed, r"does not name model\.norm\.weight"),
        (
            elsewhere,
            r"says that model\.norm\.weight is in model-00001-of-00002\.safetensors, "
            r"where it is not",
        ),
        (
            lambda f: (f / "model-00001-of-00002.safetensors").unlink(),
            r"names model-00001-of-00002\.safetensors, which is not",
        ),
        (lambda f: (f / "model.safetensors.index.json").write_text("{}"), r"no index of weights"),
    ],
)
def test_a_model_in_parts(tmp_path: Path, damage: Callable[[Path], None], says: str):
    parts = {
        1: {k: v for k, v in tensors().items() if "layers" in k},
        2: {k: v for k, v in tensors().items() if "layers" not in k},
    }
    for number, shapes in parts.items():
        model = write(tmp_path / "m", shapes, f"model-0000{number}-of-00002.safetensors")
    named = {
        tensor: f"model-0000{number}-of-00002.safetensors"
        for number, shapes in parts.items()
        for tensor in shapes
    }
    (model.path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": named}))
    save_file(
        {"w": np.zeros(1)}, model.path / "consolidated.safetensors"
    )  # not named by the index: not what is read
    check_checkpoint(model)
    damage(model.path)
    with pytest.raises(BadInput, match=says):
        check_checkpoint(model)


def test_a_part_that_is_missing_without_an_index(tmp_path: Path):
    model = write(tmp_path / "m", tensors(), "model-00002-of-00003.safetensors")
    with pytest.raises(BadInput, match=r"model-00001-of-00003\.safetensors is not there"):
        check_checkpoint(model)


@pytest.mark.parametrize(
    ("architecture", "causal"),
    [
        ("LlamaForCausalLM", True),
        ("GPT2LMHeadModel", True),
        ("XLNetLMHeadModel", True),
        ("ChatGLMModel", True),
        ("BertForMaskedLM", False),
        ("LlamaForSequenceClassification", False),
    ],
)
def test_what_a_causal_model_is_called(architecture: str, causal: bool):
    assert is_causal(architecture) == causal
