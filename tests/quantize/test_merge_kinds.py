"""Kinds of adapters, merged by PEFT; the oracle is plain arithmetic on tensors of the files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from foundation.errors import BadInput, SystemFailed
from foundation.models.model import ModelRef
from foundation.progress import Silent
from quantize import check_adapter, merge
from quantize.merging.merge_check import check_merged
from tests.quantize.peft_adapters import FILE, Q, merged_weights, rewrite, tensors, train
from tests.tiny_model import build_tiny_model, write_tokenizer

DOWN = "model.layers.1.mlp.down_proj"


def product(adapter: Path, module: str) -> torch.Tensor:
    saved = load_file(adapter / FILE)
    b, a = (saved[f"base_model.model.{module}.lora_{side}.weight"].float() for side in "BA")
    return b @ a


def test_scales_of_rslora_and_of_patterns(exact: ModelRef, tmp_path: Path) -> None:
    before = tensors(exact.path)
    stable = train(exact, tmp_path / "stable", use_rslora=True)
    after = merged_weights(exact, stable, tmp_path / "rslora")
    torch.testing.assert_close(
        after[f"{Q}.weight"], before[f"{Q}.weight"] + 8 / math.sqrt(4) * product(stable, Q)
    )
    patterns = train(
        exact,
        tmp_path / "patterns",
        rank_pattern={"down_proj": 8},
        alpha_pattern={r"layers\.0\..*q_proj": 32},
    )
    rewrite(patterns, lambda name, tensor: (name, tensor.bfloat16()))
    rewrite(patterns, lambda name, tensor: (name.replace(".weight", ".default.weight"), tensor))
    after = merged_weights(exact, patterns, tmp_path / "by pattern")
    rewrite(patterns, lambda name, tensor: (name.replace(".default", ""), tensor))
    torch.testing.assert_close(
        after[f"{Q}.weight"], before[f"{Q}.weight"] + 32 / 4 * product(patterns, Q)
    )
    torch.testing.assert_close(
        after[f"{DOWN}.weight"], before[f"{DOWN}.weight"] + 8 / 8 * product(patterns, DOWN)
    )


def test_dora_gives_each_output_its_length(exact: ModelRef, tmp_path: Path) -> None:
    adapter = train(exact, tmp_path / "dora", use_dora=True)
    after = merged_weights(exact, adapter, tmp_path / "out")[f"{Q}.weight"]
    length = load_file(adapter / FILE)[f"base_model.model.{Q}.lora_magnitude_vector"]
    torch.testing.assert_close(after.norm(dim=1), length.abs())
    direction = tensors(exact.path)[f"{Q}.weight"] + 2 * product(adapter, Q)
    torch.testing.assert_close(
        after,
        direction / direction.norm(dim=1, keepdim=True) * length[:, None],
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_a_start_that_takes_a_part_out_of_the_weight(
    exact: ModelRef, tmp_path: Path, start: str
) -> None:
    adapter = train(exact, tmp_path / start, init_lora_weights=start)
    before, after = (
        tensors(exact.path)[f"{Q}.weight"],
        merged_weights(exact, adapter, tmp_path / "out")[f"{Q}.weight"],
    )
    rest = after - 2 * product(adapter, Q)
    if start == "pissa":
        left, sizes, right = torch.linalg.svd(before)
        torch.testing.assert_close(
            rest, before - left[:, :4] @ sizes[:4].diag() @ right[:4], rtol=1e-4, atol=1e-5
        )
    else:
        q, r = torch.linalg.qr(before)
        torch.testing.assert_close(rest, before - 2 * q[:, :4] @ r[:4], rtol=1e-4, atol=1e-5)


def test_lora_on_the_embeddings_of_a_tied_model_leaves_the_head_alone(
    exact: ModelRef, tmp_path: Path
) -> None:
    adapter = train(exact, tmp_path / "adapter", target_modules=["q_proj", "embed_tokens"])
    out = merge(exact, adapter, tmp_path / "out", Silent())
    before, after, saved = tensors(exact.path), tensors(out.path), load_file(adapter / FILE)
    name = "base_model.model.model.embed_tokens.lora_embedding"
    added = (saved[f"{name}_B"] @ saved[f"{name}_A"]).T
    torch.testing.assert_close(
        after["model.embed_tokens.weight"], before["model.embed_tokens.weight"] + 2 * added
    )
    assert torch.equal(after["lm_head.weight"], before["model.embed_tokens.weight"])
    assert out.config()["tie_word_embeddings"] is False


def test_lora_on_a_tied_head_leaves_the_embeddings_alone(exact: ModelRef, tmp_path: Path) -> None:
    adapter = train(exact, tmp_path / "adapter", target_modules=["q_proj", "lm_head"])
    out = merge(exact, adapter, tmp_path / "out", Silent())
    before, after = tensors(exact.path), tensors(out.path)
    embeddings = before["model.embed_tokens.weight"]
    assert torch.equal(after["model.embed_tokens.weight"], embeddings)
    torch.testing.assert_close(
        after["lm_head.weight"], embeddings + 2 * product(adapter, "lm_head")
    )
    after.pop("lm_head.weight")
    save_file(after, out.path / "model.safetensors")
    with pytest.raises(SystemFailed, match=r"nothing was written for lm_head\.weight"):
        check_merged(exact, adapter, out)


@pytest.mark.parametrize("saved", [["embed_tokens"], ["embed_tokens", "lm_head"]])
def test_tied_embeddings_that_were_trained_whole(
    exact: ModelRef, tmp_path: Path, saved: list[str]
) -> None:
    adapter = train(exact, tmp_path / "adapter", modules_to_save=saved)
    before, after, own = (
        tensors(exact.path),
        merged_weights(exact, adapter, tmp_path / "out"),
        load_file(adapter / FILE),
    )
    assert torch.equal(
        after["model.embed_tokens.weight"], own["base_model.model.model.embed_tokens.weight"]
    )
    head = (
        own["base_model.model.lm_head.weight"]
        if "lm_head" in saved
        else before["model.embed_tokens.weight"]
    )
    assert torch.equal(after["lm_head.weight"], head)


def test_embeddings_that_are_trained_whole_and_stay_tied(exact: ModelRef, tmp_path: Path) -> None:
    adapter = train(
        exact, tmp_path / "adapter", modules_to_save=["embed_tokens"], ensure_weight_tying=True
    )
    after, own = merged_weights(exact, adapter, tmp_path / "out"), load_file(adapter / FILE)
    embeddings = own["base_model.model.model.embed_tokens.weight"]
    assert torch.equal(after["model.embed_tokens.weight"], embeddings)
    assert torch.equal(after.get("lm_head.weight", embeddings), embeddings)


def test_a_pair_that_is_to_change_embeddings_and_tied_head_alike_is_refused(
    exact: ModelRef, tmp_path: Path
) -> None:
    adapter = train(
        exact,
        tmp_path / "adapter",
        target_modules=["embed_tokens", "lm_head"],
        ensure_weight_tying=True,
    )
    with pytest.raises(BadInput, match="ensure_weight_tying"):
        check_adapter(adapter, exact)


def test_trained_tokens_take_their_rows(exact: ModelRef, tmp_path: Path) -> None:
    adapter = train(exact, tmp_path / "adapter", trainable_token_indices=[7, 3])
    before, after = (
        tensors(exact.path)["model.embed_tokens.weight"],
        merged_weights(exact, adapter, tmp_path / "out"),
    )
    rows = load_file(adapter / FILE)[
        "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"
    ]
    same = [row for row in range(len(before)) if row not in (7, 3)]
    assert torch.equal(after["model.embed_tokens.weight"][[7, 3]], rows)
    assert torch.equal(after["model.embed_tokens.weight"][same], before[same])


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    """Its layers hold (in, out), and some are square: only the model's kind tells which."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("gpt2")
    config = GPT2Config(
        vocab_size=write_tokenizer(folder), n_embd=64, n_layer=1, n_head=2, n_positions=128
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(folder)
    return ModelRef("test/gpt2", None, folder)


def test_the_turned_layers_of_gpt2_and_their_biases(gpt2: ModelRef, tmp_path: Path) -> None:
    # As in its first files on the hub: without the first part of every name, and with the mask.
    hub = tmp_path / "hub"
    hub.mkdir()
    for file in gpt2.path.iterdir():
        (hub / file.name).write_bytes(file.read_bytes())
    names = {
        name.removeprefix("transformer."): tensor for name, tensor in tensors(gpt2.path).items()
    }
    save_file(
        names | {"h.0.attn.bias": torch.ones(1, 1, 128, 128)},
        hub / "model.safetensors",
        metadata={"format": "pt"},
    )
    base = ModelRef("test/gpt2", None, hub)
    adapter = train(
        gpt2,
        tmp_path / "adapter",
        target_modules=["c_attn", "c_proj"],
        bias="lora_only",
        fan_in_fan_out=True,
    )
    after, saved = merged_weights(base, adapter, tmp_path / "out"), load_file(adapter / FILE)
    for layer in ("attn.c_attn", "attn.c_proj", "mlp.c_proj"):
        module = f"transformer.h.0.{layer}"
        torch.testing.assert_close(
            after[f"{module}.weight"], names[f"h.0.{layer}.weight"] + 2 * product(adapter, module).T
        )
        assert torch.equal(
            after[f"{module}.bias"], saved[f"base_model.model.{module}.base_layer.bias"]
        )
    biased = train(gpt2, tmp_path / "biased", target_modules=["c_attn"], lora_bias=True)
    after, saved = merged_weights(base, biased, tmp_path / "with biases"), load_file(biased / FILE)
    module = "transformer.h.0.attn.c_attn"
    bias = saved[f"base_model.model.{module}.lora_B.bias"]
    torch.testing.assert_close(after[f"{module}.bias"], names["h.0.attn.c_attn.bias"] + 2 * bias)


def test_an_output_head_that_the_file_calls_otherwise(tmp_path: Path) -> None:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    folder = tmp_path / "neox"
    folder.mkdir()
    config = GPTNeoXConfig(
        vocab_size=write_tokenizer(folder),
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=96,
    )
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    base = ModelRef("neox", None, folder)
    adapter = train(base, tmp_path / "adapter", target_modules=["query_key_value", "lm_head"])
    before, after = tensors(folder), merged_weights(base, adapter, tmp_path / "out")
    torch.testing.assert_close(
        after["embed_out.weight"], before["embed_out.weight"] + 2 * product(adapter, "lm_head")
    )


def test_each_weight_keeps_the_dtype_of_its_own_file_whatever_the_config_says(
    tmp_path: Path,
) -> None:
    base = build_tiny_model(tmp_path / "base", dtype="float16", initializer_range=0.2)
    mixed = {
        name: tensor.float() if "norm" in name or "k_proj" in name else tensor
        for name, tensor in tensors(base.path).items()
    }
    save_file(mixed, base.path / "model.safetensors", metadata={"format": "pt"})
    adapter = train(base, tmp_path / "adapter")
    for written in ({}, {"dtype": "bfloat16"}):
        config = {key: value for key, value in base.config().items() if "dtype" not in key}
        (base.path / "config.json").write_text(json.dumps(config | written))
        out = merge(base, adapter, tmp_path / f"out{len(written)}", Silent())
        assert {name: t.dtype for name, t in tensors(out.path).items()} == {
            name: t.dtype for name, t in mixed.items()
        }
        assert out.config()["dtype"] == written.get("dtype", "float16")
