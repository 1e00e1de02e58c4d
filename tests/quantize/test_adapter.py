from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from foundation.errors import BadInput
from foundation.models.model import ModelRef
from quantize import check_adapter
from tests.quantize.conftest import build_adapter
from tests.tiny_model import build_tiny_model


@pytest.fixture
def copy(adapter: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(adapter, tmp_path / "copy"))


def test_the_adapter_of_this_base_passes(adapter: Path, base: ModelRef) -> None:
    check_adapter(adapter, base)


def test_a_base_of_equal_shape_and_other_weights_is_told_apart(
    adapter: Path, base: ModelRef, tmp_path: Path
) -> None:
    other = build_tiny_model(tmp_path / "other", seed=1, id="test/other")
    with pytest.raises(
        BadInput,
        match=f"{adapter}: trained on test/tiny-chat, whose weights are not those of test/other",
    ):
        check_adapter(adapter, other)


def test_an_adapter_from_elsewhere_is_judged_by_name_and_shapes(
    base: ModelRef, tmp_path: Path
) -> None:
    check_adapter(build_adapter(base, tmp_path / "same", fingerprint=False), base)
    check_adapter(
        build_adapter(base, tmp_path / "local", fingerprint=False, named="/home/somebody/model"),
        base,
    )
    with pytest.raises(BadInput, match="trained on other/model, not on test/tiny-chat"):
        check_adapter(
            build_adapter(base, tmp_path / "named", fingerprint=False, named="other/model"), base
        )


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"hidden": 128, "heads": 4, "kv_heads": 2}, "has 64 (inputs|outputs) there and 128"),
        ({"intermediate": 256}, "has 128 inputs there and 256"),
        ({"kv_heads": 2}, "has 32 outputs there and 64"),
        ({"layers": 1}, r"adapts model\.layers\.1\..*, which test/tiny-chat does not have"),
    ],
)
def test_shapes_that_do_not_fit(
    base: ModelRef, tmp_path: Path, shape: dict[str, int], message: str
) -> None:
    adapter = build_adapter(base, tmp_path / "adapter", fingerprint=False)
    with pytest.raises(BadInput, match=f"{message}.*trained on another model"):
        check_adapter(adapter, build_tiny_model(tmp_path / "other", **shape))


def test_tensors_that_the_base_has_no_place_for(copy: Path, base: ModelRef) -> None:
    """A pair for a norm, wrong lengths, trained rows without a name: torch would fail on each."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    file, config = copy / "adapter_model.safetensors", copy / "adapter_config.json"
    layer, tensors = "base_model.model.model.layers.0", load_file(file)
    pair = tensors[f"{layer}.mlp.down_proj.lora_A.weight"]
    lengths = {
        name.replace("lora_A.weight", "lora_magnitude_vector"): np.ones(3, "f4")
        for name in tensors
        if "lora_A" in name
    }
    rows = {
        "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta": np.ones(
            (1, 64), "f4"
        )
    }
    norm = {
        f"{layer}.input_layernorm.lora_A.weight": pair,
        f"{layer}.input_layernorm.lora_B.weight": pair.T.copy(),
    }
    for more, settings, says in (
        (norm, {}, r"adapts model\.layers\.0\.input_layernorm, which is no matrix"),
        (lengths, {"use_dora": True}, "has no lora_magnitude_vector of 64 lengths"),
        (rows, {}, "trainable_token_indices"),
        (rows, {"trainable_token_indices": [10**6]}, "trainable_token_indices"),
        (rows, {"trainable_token_indices": {"embed_tokens": [1, 2]}}, "trainable_token_indices"),
    ):
        save_file(tensors | more, file)
        before = config.read_text()
        config.write_text(json.dumps(json.loads(before) | settings))
        with pytest.raises(BadInput, match=says):
            check_adapter(copy, base)
        config.write_text(before)
    save_file(tensors | rows, file)
    config.write_text(json.dumps(json.loads(config.read_text()) | {"trainable_token_indices": [1]}))
    check_adapter(copy, base)


def test_settings_that_no_library_reads_are_refused(copy: Path, base: ModelRef) -> None:
    file = copy / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"rank_pattern": {"(q_proj": 4}}))
    with pytest.raises(BadInput, match=r"adapter_config\.json: rank_pattern: "):
        check_adapter(copy, base)


def test_pickle_weights_are_refused(copy: Path, base: ModelRef) -> None:
    (copy / "adapter_model.safetensors").rename(copy / "adapter_model.bin")
    with pytest.raises(BadInput, match="pickle weights are not loaded"):
        check_adapter(copy, base)


def test_what_is_no_lora_adapter(copy: Path, base: ModelRef) -> None:
    file = copy / "adapter_config.json"
    file.write_text(json.dumps({"peft_type": "PREFIX_TUNING"}))
    with pytest.raises(
        BadInput, match=r"adapter_config\.json: peft_type: 'PREFIX_TUNING'; only LoRA"
    ):
        check_adapter(copy, base)
    file.write_text("{")
    with pytest.raises(BadInput, match=r"adapter_config\.json: not JSON"):
        check_adapter(copy, base)
    file.unlink()
    with pytest.raises(BadInput, match=r"copy: not an adapter folder"):
        check_adapter(copy, base)


def test_broken_weights(base: ModelRef, tmp_path: Path) -> None:
    adapter = build_adapter(base, tmp_path / "adapter", fingerprint=False)
    (adapter / "adapter_model.safetensors").write_bytes(b"no header")
    with pytest.raises(BadInput, match=r"adapter_model\.safetensors: not a safetensors file"):
        check_adapter(adapter, base)


def test_tokens_that_were_added_without_their_embeddings(copy: Path, base: ModelRef) -> None:
    rows = base.shapes()["model.embed_tokens.weight"][0]
    tokenizer = json.loads((base.path / "tokenizer.json").read_text())
    for number, refused in ((rows - 1, False), (rows, True)):
        added = [*tokenizer["added_tokens"], {"id": number, "content": "<|call|>"}]
        (copy / "tokenizer.json").write_text(json.dumps({**tokenizer, "added_tokens": added}))
        if refused:
            with pytest.raises(
                BadInput,
                match=rf"<\|call\|> is token {rows}, and {rows} is how many have embeddings",
            ):
                check_adapter(copy, base)
        else:
            check_adapter(copy, base)  # an embedding that the base has and does not use


def test_a_pair_that_the_config_does_not_name_is_passed_over_by_peft(
    copy: Path, base: ModelRef
) -> None:
    """The oracle is PEFT: with less in its config it makes another model of the same file."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    def first_weights() -> torch.Tensor:
        model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
        merged = PeftModel.from_pretrained(model, copy).merge_and_unload()
        return merged.model.layers[0].mlp.down_proj.weight.detach().clone()

    whole = first_weights()
    file = copy / "adapter_config.json"
    config = json.loads(file.read_text())
    for less in (
        {"target_modules": ["q_proj", "v_proj"]},
        {"exclude_modules": ["down_proj"]},
    ):
        file.write_text(json.dumps(config | less))
        assert not torch.equal(first_weights(), whole)
        with pytest.raises(BadInput, match=r"a LoRA pair for model\.layers\.0\.mlp\.down_proj"):
            check_adapter(copy, base)


def test_a_bias_that_the_base_lacks_is_named(base: ModelRef, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(r=4, target_modules=["q_proj"], lora_bias=True)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base.path), config)
    for parameter in model.parameters():
        parameter.data += 0.1
    model.peft_config["default"].base_model_name_or_path = base.id
    model.save_pretrained(tmp_path / "biased")
    with pytest.raises(BadInput, match=r"trains a bias of .*q_proj.*; train without lora_bias"):
        check_adapter(tmp_path / "biased", base)


def test_weights_that_git_lfs_did_not_fetch(copy: Path, base: ModelRef) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n"
    (copy / "adapter_model.safetensors").write_text(pointer)
    with pytest.raises(BadInput, match="git lfs pull"):
        check_adapter(copy, base)
