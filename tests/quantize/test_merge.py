from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from foundation.errors import BadInput, SystemFailed
from foundation.models.model import ModelRef
from foundation.progress import Silent
from quantize import merge
from quantize.merging.merge_check import check_merged
from tests.quantize.conftest import MODULES, build_adapter
from tests.tiny_model import build_tiny_model

SCALE = 8 / 4  # alpha / rank


@pytest.fixture(scope="module")
def merged(base: ModelRef, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return merge(base, adapter, tmp_path_factory.mktemp("merged"), Silent())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def recipe(model: ModelRef) -> dict[str, Any]:
    return dict(json.loads((model.path / "recipe.json").read_text()))


def test_every_weight_is_base_plus_scaled_product_added_in_float32(
    merged: ModelRef, base: ModelRef, adapter: Path
) -> None:
    before, after, low_rank = (
        weights(base.path),
        weights(merged.path),
        load_file(adapter / "adapter_model.safetensors"),
    )
    assert after.keys() == before.keys()
    for name, weight in before.items():
        module = f"base_model.model.{name.removesuffix('.weight')}"
        if name.split(".")[-2] in MODULES:
            product = low_rank[f"{module}.lora_B.weight"] @ low_rank[f"{module}.lora_A.weight"]
            expected = (weight.float() + SCALE * product).bfloat16()
            # A sum on the border of two bfloat16 values may fall to either side.
            assert ((after[name] != expected).float().mean()) < 0.01
            torch.testing.assert_close(after[name], expected, rtol=2**-7, atol=0)
        else:
            assert torch.equal(after[name], weight), name


def test_tied_embeddings_stay_tied_and_untied_ones_apart(
    merged: ModelRef, adapter: Path, tmp_path: Path
) -> None:
    assert "lm_head.weight" not in weights(merged.path)
    assert merged.config()["tie_word_embeddings"] is True
    untied = build_tiny_model(tmp_path / "untied", tied=False, dtype="float32")
    out = merge(untied, build_adapter(untied, tmp_path / "adapter"), tmp_path / "out", Silent())
    assert torch.equal(weights(out.path)["lm_head.weight"], weights(untied.path)["lm_head.weight"])
    assert weights(out.path)["lm_head.weight"].dtype is torch.float32


def test_a_prompt_gives_the_same_tokens_as_for_the_base(merged: ModelRef, base: ModelRef) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Héllo €?"}]
    ids = [
        AutoTokenizer.from_pretrained(m.path).apply_chat_template(
            messages, add_generation_prompt=True
        )["input_ids"]
        for m in (base, merged)
    ]
    assert ids[0] == ids[1]
    assert GenerationConfig.from_pretrained(merged.path).eos_token_id == 2


def test_recipe_tells_where_it_came_from_and_how_near_it_is(
    merged: ModelRef, base: ModelRef, adapter: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    facts = recipe(merged)
    assert facts["from"] == {
        "id": base.id,
        "revision": base.revision,
        "fingerprint": base.fingerprint(),
    }
    assert (facts["method"], facts["merged_in"], facts["dtype"]) == ("merge", "float32", "bfloat16")
    assert facts["bytes_before"] == facts["bytes_after"] == base.size_bytes()
    assert facts["versions"].keys() == {"tunedyno", "torch", "transformers", "peft"}

    tokenizer = AutoTokenizer.from_pretrained(base.path)
    prompt = tokenizer("Explain quantum computing in simple terms:", return_tensors="pt")[
        "input_ids"
    ]
    with torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
        plain = model(prompt).logits
        adapted = PeftModel.from_pretrained(model, adapter)(prompt).logits
        written = AutoModelForCausalLM.from_pretrained(merged.path, dtype=torch.float32)(
            prompt
        ).logits
    difference = (written - adapted).abs()
    assert facts["adapter"]["changed_tensors"] == 2 * len(MODULES)
    assert facts["adapter"]["warnings"] == []
    assert facts["logit_difference"]["max"] == pytest.approx(float(difference.max()), rel=1e-3)
    assert facts["logit_difference"]["mean"] == pytest.approx(float(difference.mean()), rel=1e-3)
    assert facts["logit_difference"]["prompt_tokens"] == prompt.size(1)
    assert difference.mean() < (plain - adapted).abs().mean() / 10


def test_tokens_that_the_adapter_adds_are_kept(tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = build_tiny_model(tmp_path / "base", tied=False, dtype="float32")
    before = int(str(base.config()["vocab_size"]))
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|call|>", "<|result|>"]})
    model = AutoModelForCausalLM.from_pretrained(base.path)
    model.resize_token_embeddings(before + 2, mean_resizing=False)
    trained = get_peft_model(
        model,
        LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"]),
    )
    for name, parameter in trained.named_parameters():
        if "modules_to_save" in name or "lora_B" in name:
            parameter.data += 0.1 * torch.randn(
                parameter.shape, generator=torch.Generator().manual_seed(2)
            )
    trained.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")

    out = merge(base, tmp_path / "adapter", tmp_path / "out", Silent())
    asked = AutoTokenizer.from_pretrained(out.path)("<|call|>f()<|result|>", return_tensors="pt")[
        "input_ids"
    ]
    assert asked[0, 0] == before and asked[0, -1] == before + 1
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(base.path)
        plain.resize_token_embeddings(before + 2, mean_resizing=False)
        wanted = PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()(asked).logits
        logits = AutoModelForCausalLM.from_pretrained(out.path)(asked).logits
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-5)


def test_an_adapter_that_trains_the_head_of_tied_embeddings_unties_them(tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    base = build_tiny_model(tmp_path / "base", dtype="float32")
    model = AutoModelForCausalLM.from_pretrained(base.path)
    trained = get_peft_model(
        model, LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"])
    )
    for name, parameter in trained.named_parameters():
        if "modules_to_save" in name:
            parameter.data += 0.2 * torch.randn(
                parameter.shape, generator=torch.Generator().manual_seed(2)
            )
    trained.save_pretrained(tmp_path / "adapter")
    out = merge(base, tmp_path / "adapter", tmp_path / "out", Silent())
    assert out.config()["tie_word_embeddings"] is False
    asked = torch.arange(10)[None]
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(base.path)
        wanted = PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()(asked).logits
        logits = AutoModelForCausalLM.from_pretrained(out.path)(asked).logits
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-5)


def test_files_that_do_not_hold_base_plus_adapter_are_not_taken_for_merged(
    base: ModelRef, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft.tuners.lora import LoraModel

    monkeypatch.setattr(LoraModel, "merge_and_unload", LoraModel.unload)  # forgets what it is for
    with pytest.raises(
        SystemFailed, match=r"down_proj\.weight is not base \+ adapter: off by up to"
    ):
        merge(base, adapter, tmp_path / "out", Silent())


def test_a_model_that_answers_otherwise_is_not_taken_for_merged_though_its_weights_are_right(
    base: ModelRef, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(source: Path, out: Path) -> None:
        config = json.loads((out / "config.json").read_text())
        (out / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 100.0}))

    # The package has the function under the module's name.
    monkeypatch.setattr(importlib.import_module("quantize.merging.merge"), "copy_companions", spoil)
    with pytest.raises(SystemFailed, match="does not give the adapter's logits"):
        merge(base, adapter, tmp_path / "out", Silent())


def test_a_weight_that_is_two_steps_off_is_seen(
    merged: ModelRef, base: ModelRef, adapter: Path, tmp_path: Path
) -> None:
    copy = ModelRef("copy", None, Path(shutil.copytree(merged.path, tmp_path / "copy")))
    stored = weights(copy.path)
    name = "model.layers.0.mlp.down_proj.weight"
    stored[name].view(torch.int16)[0, 0] += 2
    save_file(stored, copy.path / "model.safetensors")
    with pytest.raises(SystemFailed, match=r"down_proj\.weight is not base"):
        check_merged(base, adapter, copy)


def test_a_quantized_base_is_refused(base: ModelRef, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base.path, tmp_path / "base"))
    quantized = ModelRef(base.id, None, folder)
    adapter = build_adapter(quantized, tmp_path / "adapter")
    (folder / "config.json").write_text(json.dumps({**base.config(), "quantization_config": {}}))
    with pytest.raises(BadInput, match="already quantized"):
        merge(quantized, adapter, tmp_path / "out", Silent())


def test_a_wrong_base_and_a_full_disk_are_refused_before_anything_is_written(
    base: ModelRef, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "not" / "there" / "yet"
    with pytest.raises(BadInput, match="whose weights are not those"):
        merge(build_tiny_model(tmp_path / "other", seed=1), adapter, out, Silent())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(
        BadInput, match=rf"{out}: 1,000 bytes free on its disk, {base.size_bytes():,} needed"
    ):
        merge(base, adapter, out, Silent())
    assert not out.parent.exists()
