"""Adapters that can't be merged right are refused, and a merged file is read back."""

from __future__ import annotations

import json
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
from tests.quantize.peft_adapters import FILE, Q, merged_weights, rewrite, settings, tensors, train


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
        (lambda n, t: (
            n, torch.cat([t, t]) if n.endswith("0.self_attn.q_proj.lora_A.weight") else t),
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
    [warnings] = check_adapter(adapter, exact)
    assert "3 of 6 LoRA pairs are zero" in warnings


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
    [warnings] = check_adapter(settings(adapter, quantum_config={"a": 1}), exact)
    assert "quantum_config: not known here, and without effect" in warnings


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
