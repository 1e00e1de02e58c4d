"""The adapter's own file: what vLLM refuses or drops in silence is refused before it starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foundation.errors import BadInput
from foundation.models.model import ModelRef
from serve.vllm.lora_tensors import check_adapter_file, check_architecture
from tests.serve.adapter_bytes import HIDDEN, ROWS, Shape, matrices, write_adapter, write_base

P = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture
def base(tmp_path: Path) -> ModelRef:
    return write_base(tmp_path / "base")


def check(folder: Path, shapes: dict[str, Shape], base: ModelRef, **config: Any) -> None:
    adapter = write_adapter(folder, shapes, **config)
    check_adapter_file(
        "tuned", adapter, json.loads((adapter / "adapter_config.json").read_text()), base
    )


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"target_modules": r".*(q_proj|v_proj|down_proj)"},
        {
            "target_modules": ["q_proj", "v_proj", "down_proj", "k_proj"]
        },  # none of its modules is called k_proj
    ],
)
def test_an_adapter_that_fits(tmp_path: Path, base: ModelRef, config: dict[str, Any]):
    check(tmp_path / "a", matrices(), base, **config)
    check(
        tmp_path / "b", matrices(prefix=""), base, **config
    )  # vLLM takes names without PEFT's prefix


def test_a_pattern_of_ranks_is_followed_as_peft_and_vllm_do(tmp_path: Path, base: ModelRef):
    shapes = {
        name: tuple(2 if n == 4 and "q_proj" in name else n for n in shape)
        for name, shape in matrices().items()
    }
    check(tmp_path / "a", shapes, base, rank_pattern={"self_attn.q_proj": 2})
    with pytest.raises(
        BadInput, match=r"layers\.0\.self_attn\.q_proj has rank 2 and adapter_config\.json says 4"
    ):
        check(tmp_path / "b", shapes, base)
    with pytest.raises(BadInput, match=r"v_proj has rank 4 and adapter_config\.json says 2"):
        check(tmp_path / "c", shapes, base, rank_pattern={"(q|v)_proj": 2})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: {}, "it holds no tensor; save the adapter again"),
        (lambda t: dict.fromkeys(t, (0,)), r"is empty; save the adapter again"),
        (lambda t: {name.replace(".weight", ".default.weight"): s for name, s in t.items()},
            "PEFT's model in memory"),
        (lambda t: {name: s for name, s in t.items() if name != f"{P}.lora_B.weight"},
            "only one of lora_A and lora_B"),
        (lambda t: {name: s for name, s in t.items() if not name.startswith(P)},
            "targets model.layers.0.self_attn.q_proj"),
        (lambda t: {n.replace("layers.1", "layers.7"): s for n, s in t.items()},
            "layers.7.*which base does not have"),
        (lambda t: {n.replace("model.model", "model._orig_mod.model"): s for n, s in t.items()},
            "compiled model"),
        (lambda t: t | {f"{P}.lora_A.weight": (4, 9)}, r"q_proj is 8 x 9 there and 8 x 8 in base"),
        (lambda t: t | {"base_model.model.model.embed_tokens.weight": (ROWS + 2, HIDDEN)},
            "tokens were added.*write merge"),
        (lambda t: t | {"base_model.model.lm_head.weight": (ROWS, HIDDEN)},
            "whole lm_head.*write merge"),
        (lambda t: t | {f"{P}.lora_magnitude_vector": (HIDDEN,)}, "DoRA adapter; write merge"),
        (lambda t: t | {"base_model.model.model.norm.weight": (HIDDEN,)},
            "no LoRA matrix; write merge"),
    ],
)  # fmt: skip
def test_a_file_that_vllm_would_refuse_or_serve_in_part(
    tmp_path: Path, base: ModelRef, change: Any, says: str
):
    with pytest.raises(
        BadInput, match=rf"variants\.tuned\.adapter: .*adapter_model\.safetensors: .*{says}"
    ):
        check(tmp_path / "a", change(matrices()), base)


@pytest.mark.parametrize(
    "config", [{"target_modules": "(q_proj"}, {"rank_pattern": {"(q_proj": 2}}]
)
def test_a_pattern_that_is_no_regular_expression(
    tmp_path: Path, base: ModelRef, config: dict[str, Any]
):
    with pytest.raises(
        BadInput, match=r"adapter_config\.json: (target_modules|rank_pattern): .*\(q_proj.*; write"
    ):
        check(tmp_path / "a", matrices(), base, **config)


def test_what_a_narrowed_adapter_leaves_out_is_not_missing(tmp_path: Path, base: ModelRef):
    first = {name: shape for name, shape in matrices().items() if "layers.0" in name}
    check(tmp_path / "a", first, base, layers_to_transform=[0])
    with pytest.raises(BadInput, match=r"targets model\.layers\.1"):
        check(tmp_path / "b", first, base)


def test_the_base_decides_which_embeddings_can_be_adapted(tmp_path: Path):
    head = {
        f"base_model.model.lm_head.lora_{p}.weight": s
        for p, s in (("A", (4, HIDDEN)), ("B", (ROWS, 4)))
    }
    mistral = write_base(tmp_path / "mistral", architectures=["MistralForCausalLM"])
    with pytest.raises(
        BadInput, match="vLLM does not adapt lm_head of a MistralForCausalLM; write merge"
    ):
        check(tmp_path / "a", matrices() | head, mistral)


def test_tokens_that_the_base_lacks(tmp_path: Path, base: ModelRef):
    for folder, tokens in ((base.path, ["<s>"]), (tmp_path / "a", ["<s>", "<|call|>"])):
        folder.mkdir(exist_ok=True)
        added = [{"id": i, "content": token} for i, token in enumerate(tokens)]
        (folder / "tokenizer.json").write_text(
            json.dumps({"added_tokens": added, "model": {"vocab": {"a": 5}}})
        )
    with pytest.raises(BadInput, match=r"tokens that base lacks \(<\|call\|>\).*write merge"):
        check(tmp_path / "a", matrices(), base)


def test_a_model_that_vllm_serves_without_adapters_only(tmp_path: Path, base: ModelRef):
    check_architecture("tuned", base)
    check_architecture(
        "tuned", write_base(tmp_path / "own", architectures=["OwnForCausalLM"])
    )  # who knows
    with pytest.raises(
        BadInput,
        match=r"variants\.tuned\.adapter: vLLM serves no adapter of a GPT2LMHeadModel; write merge",
    ):
        check_architecture(
            "tuned", write_base(tmp_path / "gpt2", architectures=["GPT2LMHeadModel"])
        )


def test_a_quantized_base_is_held_against_names_alone(tmp_path: Path):
    packed = write_base(tmp_path / "base", quantization_config={"quant_method": "gptq"})
    check(
        tmp_path / "a",
        {n: (4, 9) if n == f"{P}.lora_A.weight" else s for n, s in matrices().items()},
        packed,
    )
