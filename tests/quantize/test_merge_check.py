"""Kinds of adapters, merged by PEFT; the oracle is plain arithmetic here, on tensors that are read from the files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from foundation.errors import BadInput, SystemFailed
from foundation.models.model import ModelRef
from foundation.progress import Silent
from quantize import check_adapter, merge
from quantize.merging.merge_check import check_merged
from tests.quantize.conftest import MODULES
from tests.tiny_model import build_tiny_model, write_tokenizer

FILE = "adapter_model.safetensors"
Q = "model.layers.0.self_attn.q_proj"
DOWN = "model.layers.1.mlp.down_proj"


def train(base: ModelRef, folder: Path, *, seed: int = 3, **lora: Any) -> Path:
    """An adapter with random numbers in all that it trains, as PEFT saves it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    settings = {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": list(MODULES),
        "task_type": "CAUSAL_LM",
    } | lora
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32),
            LoraConfig(**settings),
        )
        for name, parameter in model.named_parameters():
            if any(
                part in name for part in ("lora_", "modules_to_save", "trainable_tokens", ".bias")
            ):
                parameter.data = parameter.data + 0.1 * torch.randn(parameter.shape)
    model.peft_config["default"].base_model_name_or_path = base.id
    model.save_pretrained(folder)
    return folder


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {
        name: tensor
        for file in folder.glob("*.safetensors")
        for name, tensor in load_file(file).items()
    }


def rewrite(folder: Path, change: Callable[[str, torch.Tensor], tuple[str, torch.Tensor]]) -> Path:
    """The adapter's file with other names and values."""
    written = dict(change(name, tensor) for name, tensor in load_file(folder / FILE).items())
    save_file(
        {name: tensor.contiguous() for name, tensor in written.items()},
        folder / FILE,
        metadata={"format": "pt"},
    )
    return folder


def settings(folder: Path, **changed: Any) -> Path:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    return folder


def product(adapter: Path, module: str) -> torch.Tensor:
    saved = load_file(adapter / FILE)
    b, a = (saved[f"base_model.model.{module}.lora_{side}.weight"].float() for side in "BA")
    return b @ a


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    """In float32, so that no rounding hides a difference."""
    return build_tiny_model(
        tmp_path_factory.mktemp("exact"), dtype="float32", initializer_range=0.2
    )


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return build_tiny_model(tmp_path_factory.mktemp("untied"), tied=False, initializer_range=0.2)


def merged_weights(base: ModelRef, adapter: Path, out: Path) -> dict[str, torch.Tensor]:
    return tensors(merge(base, adapter, out, Silent()).path)


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
    """Its layers hold (in, out), and some are square, so that nothing but the model's kind tells which is which."""
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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda n, t: (n.removeprefix("base_model.model."), t),
            r"12 of 12 names do not begin with base_model\.model\."),
        (lambda n, t: (n.removeprefix("base_model.model.") if "q_proj" in n else n, t),
            "4 of 12 names do not begin with"),
        (lambda n, t: (n.replace(".weight", ".mine.weight"), t),
            "12 of 12 names hold a name of the adapter's own"),
        (lambda n, t: (n.replace("_model.model.", "_model.model._orig_mod."), t),
            "hold _orig_mod., which torch.compile adds"),
        (lambda n, t: (n, torch.zeros(0)), "of size 0"),
        (lambda n, t: (n, t * float("nan") if "layers.1" in n and "lora_A" in n else t),
            "NaN or infinity: training went wrong"),
        (lambda n, t: (n, (t * float("inf")).bfloat16() if "q_proj" in n else t),
            "NaN or infinity"),
        (lambda n, t: (n, (t * 1e9).half() if "q_proj" in n else t), "NaN or infinity"),
        (lambda n, t: (n, 0 * t if "lora_B" in n else t),
            "every B or A is zero, so it changes nothing"),
        (lambda n, t: (n, (-0.0 * t).bfloat16() if "lora_B" in n else t), "every B or A is zero"),
        (lambda n, t: (n.replace("layers.1.", "layers.7."), t),
            r"adapts model\.layers\.7\..*, which .* does not have"),
        (lambda n, t: (n.replace("lora_B", "lora_C"), t), "not a tensor of plain LoRA"),
        (lambda n, t: (n, torch.cat([t, t]) if n.endswith("0.self_attn.q_proj.lora_A.weight") else t),
            "an A of rank 8 and a B of rank 4"),
        (lambda n, t: (n, t.to(torch.float8_e4m3fn)), "is stored as F8_E4M3; write float32"),
    ],
)  # fmt: skip
def test_a_file_that_peft_would_not_take_whole_is_refused(
    exact: ModelRef,
    tmp_path: Path,
    change: Callable[[str, torch.Tensor], tuple[str, torch.Tensor]],
    words: str,
) -> None:
    adapter = rewrite(train(exact, tmp_path / "adapter"), change)
    with pytest.raises(BadInput, match=words):
        check_adapter(adapter, exact)


def test_tensors_that_are_missing_are_missed(exact: ModelRef, tmp_path: Path) -> None:
    adapter = train(exact, tmp_path / "adapter", modules_to_save=["norm"])
    saved = load_file(adapter / FILE)
    for lost, words in (
        ("layers.1.self_attn.q_proj.lora_B", r"lora_A\.weight is there, its lora_B is not"),
        (
            "layers.1.self_attn.q_proj",
            r"names model\.layers\.1\.self_attn\.q_proj\.weight, and .* holds nothing for it",
        ),
        ("model.norm", r"names model\.norm\.weight, and"),
    ):
        save_file(
            {name: tensor for name, tensor in saved.items() if lost not in name}, adapter / FILE
        )
        with pytest.raises(BadInput, match=words):
            check_adapter(adapter, exact)
    save_file({}, adapter / FILE)
    with pytest.raises(BadInput, match="holds no tensor"):
        check_adapter(adapter, exact)
    (adapter / FILE).write_bytes((exact.path / "model.safetensors").read_bytes()[:-1])
    with pytest.raises(BadInput, match="not a safetensors file"):
        check_adapter(adapter, exact)


def test_pairs_that_are_zero_beside_others_that_are_not_are_said(
    exact: ModelRef, tmp_path: Path
) -> None:
    adapter = rewrite(
        train(exact, tmp_path / "adapter"),
        lambda n, t: (n, 0 * t if "layers.1" in n and "lora_B" in n else t),
    )
    [told] = check_adapter(adapter, exact)
    assert "3 of 6 LoRA pairs are zero" in told


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"init_lora_weights": "pissa_niter_4"},
            "init_lora_weights: pissa_niter_4 changes the base's weights",
        ),
        ({"init_lora_weights": "loftq"}, "init_lora_weights: loftq"),
        ({"layer_replication": [[0, 2]]}, "layer_replication: its merge can't be checked here"),
        ({"use_dora": True}, "lacks a lora_magnitude_vector and use_dora is True"),
        ({"r": 16}, "adapter_config.json says 16"),
    ],
)
def test_settings_that_the_file_does_not_bear_out(
    exact: ModelRef, tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        check_adapter(settings(train(exact, tmp_path / "adapter"), **changed), exact)


def test_settings_of_another_peft_are_known_or_said(exact: ModelRef, tmp_path: Path) -> None:
    import dataclasses

    from peft import LoraConfig

    defaults = {
        f.name: f.default
        for f in dataclasses.fields(LoraConfig)
        if isinstance(f.default, int | str)
    }
    marks = {
        "unsloth_version": "2026.9",
        "auto_mapping": {"unsloth_fixed": True},
        "megatron_core": "megatron.core",
    }
    adapter = train(exact, tmp_path / "adapter")
    settings(
        adapter, **(defaults | json.loads((adapter / "adapter_config.json").read_text()) | marks)
    )
    assert check_adapter(adapter, exact) == []
    [told] = check_adapter(settings(adapter, quantum_config={"a": 1}), exact)
    assert "quantum_config: not known here, and without effect" in told


def test_an_adapter_of_which_rounding_leaves_nothing_is_refused(
    base: ModelRef, tmp_path: Path
) -> None:
    faint = rewrite(train(base, tmp_path / "faint"), lambda name, tensor: (name, 1e-6 * tensor))
    with pytest.raises(
        BadInput, match=r"nothing of it is left after rounding to the dtype of test/tiny-chat"
    ):
        merge(base, faint, tmp_path / "out", Silent())


def test_added_tokens_bring_rows_for_a_head_of_its_own_too(
    untied: ModelRef, tmp_path: Path
) -> None:
    adapter = train(untied, tmp_path / "adapter")
    saved, before = load_file(adapter / FILE), tensors(untied.path)
    rows = torch.cat([before["model.embed_tokens.weight"], torch.ones(2, 64)])
    save_file(saved | {"base_model.model.model.embed_tokens.weight": rows}, adapter / FILE)
    with pytest.raises(
        BadInput, match="the embeddings and the output head must both bring their rows"
    ):
        check_adapter(adapter, untied)
    save_file(
        saved
        | {
            f"base_model.model.{name}.weight": rows.clone()
            for name in ("model.embed_tokens", "lm_head")
        },
        adapter / FILE,
    )
    after = merged_weights(untied, adapter, tmp_path / "out")
    assert torch.equal(after["lm_head.weight"], rows.bfloat16())


def test_what_was_written_is_read_back_tensor_by_tensor(exact: ModelRef, tmp_path: Path) -> None:
    adapter = train(exact, tmp_path / "adapter")
    out = merge(exact, adapter, tmp_path / "out", Silent())
    file, written = out.path / "model.safetensors", tensors(out.path)
    assert check_merged(exact, adapter, out) == 6

    def refused(words: str, **changed: torch.Tensor | None) -> None:
        names = written | {name.replace("__", "."): tensor for name, tensor in changed.items()}
        save_file({name: tensor for name, tensor in names.items() if tensor is not None}, file)
        with pytest.raises(SystemFailed, match=words):
            check_merged(exact, adapter, out)

    q, other = f"{Q}.weight", "model.layers.0.self_attn.k_proj.weight"
    one = written[q].clone()
    one[3, 5] += 1e-3
    refused("q_proj.weight is not base . adapter: off by up to 0.001", **{q: one})
    refused("q_proj.weight is bfloat16", **{q: written[q].bfloat16()})
    refused("q_proj.weight of the base was not written|nothing was written for", **{q: None})
    refused("q_proj.weight is not base . adapter", **{q: written[q] * float("nan")})
    changed = written[other].clone()
    changed[0, 0] = torch.nextafter(changed[0, 0], torch.tensor(9.0))
    refused("k_proj.weight is not a copy", **{other: changed})
    refused("k_proj.weight of the base was not written", **{other: None})
    refused("model.extra.weight was written, and", **{"model.extra.weight": torch.ones(2)})
