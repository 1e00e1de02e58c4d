from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from foundation.errors import BadInput
from foundation.models.model import ModelRef
from foundation.progress import Silent
from quantize import quantize
from quantize.config import QuantizeConfig
from quantize.layers import choose_group_size
from quantize.methods import METHODS as TABLE
from quantize.methods import Method
from serve.vllm.quantization import FORMATS, why_not_on_cpu, why_not_on_cuda
from tests.tiny_model import build_tiny_model

METHODS: tuple[Method, ...] = ("w8a8-int8", "w4a16", "fp8-dynamic", "nvfp4", "bnb-nf4", "bnb-int8")
W4A16 = QuantizeConfig(method="w4a16")


@pytest.fixture(scope="module")
def written(base: ModelRef, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelRef]:
    folder = tmp_path_factory.mktemp("quantized")
    return {
        method: quantize(base, QuantizeConfig(method=method), folder / method, Silent())
        for method in METHODS
    }


def tensors(model: ModelRef) -> dict[str, torch.Tensor]:
    return load_file(model.path / "model.safetensors")


def linear(base: ModelRef) -> dict[str, torch.Tensor]:
    """The weights that are to be quantized: those of the layers' projections."""
    return {
        name: weight.float()
        for name, weight in tensors(base).items()
        if name.endswith("_proj.weight")
    }


def scheme(model: ModelRef) -> dict[str, Any]:
    config: Any = model.config()["quantization_config"]
    return dict(config["config_groups"]["group_0"])


def test_w8a8_rounds_each_channel_to_the_nearest_of_its_256_steps(
    written: dict[str, ModelRef], base: ModelRef
) -> None:
    stored = tensors(written["w8a8-int8"])
    for name, weight in linear(base).items():
        assert stored[name].dtype is torch.int8
        scale = stored[f"{name}_scale"].float()
        assert scale.shape == (weight.size(0), 1)
        # A channel's largest weight uses the whole range; none moves by more than half a step.
        assert (stored[name].int().abs().amax(dim=1) >= 126).all()
        assert (
            (stored[name] * scale - weight).abs() <= scale * 0.51 + weight.abs() * 2**-7
        ).all(), name
    activations = scheme(written["w8a8-int8"])["input_activations"]
    assert {
        "num_bits": 8,
        "type": "int",
        "strategy": "token",
        "dynamic": True,
    }.items() <= activations.items()


def test_w4a16_has_a_scale_for_every_group(written: dict[str, ModelRef], base: ModelRef) -> None:
    model = written["w4a16"]
    group = json.loads((model.path / "recipe.json").read_text())["group_size"]
    assert group == scheme(model)["weights"]["group_size"] == 64  # inputs are 64 and 128 wide
    assert scheme(model)["input_activations"] is None
    stored = tensors(model)
    for name, weight in linear(base).items():
        scale = stored[f"{name}_scale"].float()
        assert scale.shape == (weight.size(0), weight.size(1) // group)
        packed = stored[f"{name}_packed"]
        assert packed.dtype is torch.int32
        # Eight 4-bit values a word, lowest bits first, stored plus 8: the format's documentation.
        values = (
            torch.stack([(packed >> (4 * i)) & 0xF for i in range(8)], dim=-1).flatten(1).float()
            - 8
        )
        restored = (values.view(*scale.shape, group) * scale[..., None]).flatten(1)
        step = scale.repeat_interleave(group, dim=1)
        assert ((restored - weight).abs() <= step * 0.52 + weight.abs() * 2**-7).all(), name


def test_fp8_keeps_three_bits_of_mantissa(written: dict[str, ModelRef], base: ModelRef) -> None:
    stored = tensors(written["fp8-dynamic"])
    for name, weight in linear(base).items():
        assert stored[name].dtype is torch.float8_e4m3fn
        scale = stored[f"{name}_scale"].float()
        restored = stored[name].float() * scale
        assert (
            (restored - weight).abs() <= weight.abs() * (2**-4 + 2**-7) + scale * 2**-9
        ).all(), name


def test_nf4_is_what_bitsandbytes_reads_back(written: dict[str, ModelRef], base: ModelRef) -> None:
    from bitsandbytes.functional import dequantize_4bit
    from transformers import AutoModelForCausalLM

    config: Any = written["bnb-nf4"].config()["quantization_config"]
    assert (config["load_in_4bit"], config["bnb_4bit_quant_type"], config["quant_method"]) == (
        True,
        "nf4",
        "bitsandbytes",
    )
    model = AutoModelForCausalLM.from_pretrained(written["bnb-nf4"].path, device_map={"": "cpu"})
    modules = dict(model.named_modules())
    for name, weight in linear(base).items():
        parameter = modules[name.removesuffix(".weight")].weight
        restored = dequantize_4bit(parameter.data, parameter.quant_state).float()
        # Half of NF4's widest gap (1.0 - 0.6962) of the largest weight of each block of 64.
        largest = (
            weight.reshape(-1, 64)
            .abs()
            .amax(dim=1, keepdim=True)
            .expand(-1, 64)
            .reshape(weight.shape)
        )
        assert ((restored - weight).abs() <= largest * 0.16).all(), name


FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
"""E2M1's sixteen values, by their bits (OCP Microscaling Formats specification, table 5)."""


def test_nvfp4_has_a_scale_for_every_sixteen_and_one_for_what_is_multiplied_together(
    written: dict[str, ModelRef], base: ModelRef
) -> None:
    model = written["nvfp4"]
    assert scheme(model)["input_activations"] is None
    stored = tensors(model)
    for name, weight in linear(base).items():
        module = name.removesuffix(".weight")
        scale = stored[f"{name}_scale"]
        assert scale.dtype is torch.float8_e4m3fn
        assert scale.shape == (weight.size(0), weight.size(1) // 16)
        packed = stored[f"{module}.weight_packed"]
        values = FP4[torch.stack([packed & 0xF, packed >> 4], dim=-1).flatten(1).long()]
        step = (scale.float() / stored[f"{module}.weight_global_scale"]).repeat_interleave(
            16, dim=1
        )
        # Half of the widest gap (4 to 6); the group's scale is rounded to FP8, by a sixteenth.
        assert ((values * step - weight).abs() <= step * 1.02 + weight.abs() / 16).all(), name
    for layer in range(2):
        attention, mlp = f"model.layers.{layer}.self_attn", f"model.layers.{layer}.mlp"
        for parent, parts in ((attention, "qkv"), (mlp, ("gate", "up"))):
            assert (
                len({float(stored[f"{parent}.{part}_proj.weight_global_scale"]) for part in parts})
                == 1
            )


def test_bnb_int8_rounds_each_row_to_its_largest_weight(
    written: dict[str, ModelRef], base: ModelRef
) -> None:
    stored = tensors(written["bnb-int8"])
    config: Any = written["bnb-int8"].config()["quantization_config"]
    assert (config["load_in_8bit"], config["quant_method"]) == (True, "bitsandbytes")
    for name, weight in linear(base).items():
        assert stored[name].dtype is torch.int8
        largest = stored[name.removesuffix("weight") + "SCB"][:, None]
        assert torch.allclose(largest[:, 0], weight.abs().amax(dim=1), rtol=1e-2)
        assert ((stored[name] * largest / 127 - weight).abs() <= largest / 127 * 0.51).all(), name


@pytest.mark.parametrize("method", METHODS)
def test_all_else_stays_as_it_was(
    written: dict[str, ModelRef], base: ModelRef, method: str
) -> None:
    before, after = tensors(base), tensors(written[method])
    assert torch.equal(after["model.embed_tokens.weight"], before["model.embed_tokens.weight"])
    assert torch.equal(after["model.norm.weight"], before["model.norm.weight"])
    assert not any(name.startswith("lm_head") for name in after)  # tied
    for file in (
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "generation_config.json",
    ):
        assert (written[method].path / file).read_bytes() == (base.path / file).read_bytes()


@pytest.mark.parametrize("method", METHODS)
def test_recipe(written: dict[str, ModelRef], base: ModelRef, method: str) -> None:
    recipe = json.loads((written[method].path / "recipe.json").read_text())
    assert recipe["from"] == {
        "id": base.id,
        "revision": base.revision,
        "fingerprint": base.fingerprint(),
    }
    assert recipe["method"] == method
    assert (recipe["algorithm"], recipe["kept"]) == ("rtn", ["lm_head"])
    assert recipe["bytes_before"] == base.size_bytes()
    assert (
        recipe["bytes_after"]
        == (written[method].path / "model.safetensors").stat().st_size
        < base.size_bytes()
    )
    assert {"tunedyno", "torch", "transformers"} < recipe["versions"].keys()


def test_an_untied_head_keeps_its_precision_unless_asked(tmp_path: Path) -> None:
    base = build_tiny_model(tmp_path / "untied", tied=False)
    kept = quantize(base, QuantizeConfig(method="w8a8-int8"), tmp_path / "kept", Silent())
    assert tensors(kept)["lm_head.weight"].dtype is torch.bfloat16


@pytest.mark.parametrize("method", ["w8a8-int8", "bnb-int8"])
@pytest.mark.parametrize(
    "keep",
    [
        ("lm_head", "down_proj", "layers.1.self_attn"),
        ("lm_head", r"re:.*(down_proj|1\.self_attn.*)$"),
    ],
)
def test_layers_are_kept_by_name_or_by_pattern(
    method: str, keep: tuple[str, ...], base: ModelRef, tmp_path: Path
) -> None:
    stored = tensors(
        quantize(base, QuantizeConfig(method=method, keep=keep), tmp_path / "out", Silent())
    )
    quantized = {
        name.removesuffix(".weight") for name in linear(base) if stored[name].dtype is torch.int8
    }
    parts = {"self_attn": "qkvo", "mlp": ("gate", "up")}
    layers = [(0, "self_attn"), (0, "mlp"), (1, "mlp")]
    assert quantized == {
        f"model.layers.{n}.{block}.{part}_proj" for n, block in layers for part in parts[block]
    }


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (
            ("lm_head", "down_porj"),
            r"keep: test/tiny-chat has no linear layer 'down_porj' \(did you mean 'down_proj'\?\)",
        ),
        (
            ("lm_head", "q_proj"),
            r"keep: .*q_proj is kept and .*k_proj is not, but vLLM multiplies them as one matrix",
        ),
        (("down_proj",), "keep: the output head of test/tiny-chat is tied to its embeddings"),
        (("lm_head", "self_attn", "mlp"), "keep: every linear layer is kept"),
    ],
)
def test_layers_that_cannot_be_kept(
    keep: tuple[str, ...], message: str, base: ModelRef, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=message):
        quantize(base, QuantizeConfig(method="w4a16", keep=keep), tmp_path / "out", Silent())
    assert not (tmp_path / "out").exists()


@given(st.sets(st.integers(1, 512).map(lambda n: n * 32), min_size=1, max_size=4))
def test_group_size_is_the_largest_that_divides_every_width(widths: set[int]) -> None:
    size = choose_group_size(widths, W4A16)
    assert all(width % size == 0 for width in widths)
    assert size == 128 or any(width % (2 * size) for width in widths)


def test_group_sizes_that_do_not_fit() -> None:
    assert choose_group_size({576, 1536}, W4A16) == 64
    with pytest.raises(
        BadInput,
        match=r"group_size: 128 does not divide the model's input widths \(576, 1536\); "
        r"write 64 or 32",
    ):
        choose_group_size({576, 1536}, QuantizeConfig(method="w4a16", group_size=128))
    with pytest.raises(BadInput, match="w4a16 needs input widths that 32 divides"):
        choose_group_size({100}, W4A16)


def test_refusals_before_anything_is_written(
    written: dict[str, ModelRef], base: ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = QuantizeConfig(method="w8a8-int8")
    with pytest.raises(
        BadInput, match="already quantized; quantize the full-precision model, once"
    ):
        quantize(written["w4a16"], config, tmp_path / "twice", Silent())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=7))
    with pytest.raises(
        BadInput, match=rf"{tmp_path}/out: 7 bytes free on its disk, {base.size_bytes():,} needed"
    ):
        quantize(base, config, tmp_path / "out", Silent())
    assert not list(tmp_path.iterdir())


def test_pickle_weights_are_refused(base: ModelRef, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base.path, tmp_path / "pickled"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match="pickle weights are not loaded"):
        quantize(
            ModelRef("p", None, folder),
            QuantizeConfig(method="bnb-nf4"),
            tmp_path / "out",
            Silent(),
        )


def test_too_little_to_calibrate_with(base: ModelRef, tmp_path: Path) -> None:
    from foundation.data.examples import Example

    few = [Example(tmp_path, n, ({"role": "user", "content": "?"},), "!", {}) for n in range(40)]
    config = QuantizeConfig(method="w4a16", algorithm="gptq")
    for learned, instead in (
        (few, "calibration: 40"),
        (few[:3], "32 examples at least, or algorithm: rtn"),
    ):
        with pytest.raises(
            BadInput,
            match=rf"gptq asks for 256 training examples, data.train has {len(learned)}; "
            rf"write {instead}",
        ):
            quantize(base, config, tmp_path / "out", Silent(), learned)


def test_the_room_that_writes_and_the_room_that_serves_know_the_same_methods() -> None:
    only_stored = {"w8a16", "wna16", "w8a16-fp8", "fbgemm-fp8", "mxfp4", "mxfp8"}
    assert set(TABLE) == set(METHODS) == FORMATS.keys() - only_stored


def test_what_the_cpu_backend_serves() -> None:
    served = {method for method in METHODS if why_not_on_cpu(method) is None}
    assert served == {"w8a8-int8", "w4a16", "bnb-nf4", "bnb-int8"}
    assert "CUDA" in str(why_not_on_cpu("fp8-dynamic"))


@pytest.mark.parametrize(
    ("capability", "refused"),
    [
        (7.0, {"w8a8-int8", "w4a16", "fp8-dynamic", "nvfp4", "bnb-int8"}),
        (8.0, set()),
        (9.0, set()),
        (10.0, {"w8a8-int8"}),
    ],
)
def test_what_a_gpu_serves(capability: float, refused: set[str]) -> None:
    assert {method for method in METHODS if why_not_on_cuda(method, capability)} == refused
