"""The number format of a server: fast on the processor, and allowed by the checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foundation.errors import BadInput
from foundation.models.model import ModelRef
from serve import ServedVariant, check
from serve.config import ServeConfig
from serve.dtype import has_four_bits, served_dtype
from serve.vllm.memory import estimate_memory

FAST, SLOW = ("avx2", "avx512f", "avx512_bf16"), ("avx2", "avx512f", "avx512_vnni")


@pytest.fixture(params=[FAST, SLOW], ids=["fast", "slow"])
def fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr("serve.dtype.instruction_sets", lambda: request.param)
    return request.param is FAST


def model(folder: Path, quantization: dict[str, object] | None = None) -> ModelRef:
    config = {"dtype": "bfloat16"} | ({"quantization_config": quantization} if quantization else {})
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"0" * 1000)
    return ModelRef("m", None, folder)


def config(dtype: str = "auto", **more: object) -> ServeConfig:
    return ServeConfig.model_validate(
        {"device": "cpu", "dtype": dtype, "kv_cache": "64MiB", "memory": "64GB", **more}
    )


def test_auto_takes_what_the_processor_does_at_speed(fast: bool, tmp_path: Path) -> None:
    served = served_dtype(ServedVariant("v", model(tmp_path)), config(), on_cpu=True)
    assert served.dtype == ("bfloat16" if fast else "float32")
    assert (served.note is None) is fast and served.doubt is None
    assert served_dtype(ServedVariant("v", model(tmp_path)), config(), on_cpu=False).dtype == "auto"


@pytest.mark.parametrize("asked", ["bfloat16", "float32"])
def test_what_is_emulated_is_doubted_where_it_was_asked_for(
    fast: bool, asked: str, tmp_path: Path
) -> None:
    served = served_dtype(ServedVariant("v", model(tmp_path)), config(asked), on_cpu=True)
    assert served.dtype == asked
    assert (served.doubt is not None) is (asked == "bfloat16" and not fast)


FOUR_BITS = [
    {"quant_method": "bitsandbytes", "load_in_4bit": True},
    {"quant_method": "gptq", "bits": 4},
    {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"weights": {"num_bits": 4}}},
    },
]
EIGHT_BITS = [
    {"quant_method": "bitsandbytes", "load_in_8bit": True, "load_in_4bit": False},
    {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"weights": {"num_bits": 8}}},
    },
]


@pytest.mark.parametrize("quantization", FOUR_BITS)
def test_weights_of_four_bits_stay_in_16_bits(
    fast: bool, quantization: dict[str, object], tmp_path: Path
) -> None:
    variant = ServedVariant("v", model(tmp_path, quantization))
    assert has_four_bits(variant)
    served = served_dtype(variant, config(), on_cpu=True)
    assert (served.dtype, served.note is None, served.doubt) == ("bfloat16", fast, None)
    with pytest.raises(BadInput, match=r"serve\.dtype: v has weights of four bits"):
        served_dtype(variant, config("float32"), on_cpu=True)


@pytest.mark.parametrize("quantization", EIGHT_BITS)
def test_weights_of_eight_bits_are_served_like_any_other(
    quantization: dict[str, object], tmp_path: Path
) -> None:
    assert not has_four_bits(ServedVariant("v", model(tmp_path, quantization)))


def test_a_checkpoint_still_to_be_made_is_known_by_its_variant(tmp_path: Path) -> None:
    there = ModelRef("m", None, tmp_path / "missing")
    assert has_four_bits(ServedVariant("v", there, bits=4))
    assert not has_four_bits(ServedVariant("v", there))


def test_float32_takes_twice_the_memory_of_16_bit_weights(tmp_path: Path) -> None:
    from serve.device import Device

    device = Device("cpu", None, 1)
    plain, int8 = model(tmp_path / "a"), model(tmp_path / "b", EIGHT_BITS[1])
    assert (
        estimate_memory(ServedVariant("v", plain), config(), device, "float32").weights
        == 2 * plain.size_bytes()
    )
    assert (
        estimate_memory(ServedVariant("v", plain), config(), device, "bfloat16").weights
        == plain.size_bytes()
    )
    assert (
        estimate_memory(ServedVariant("v", int8), config(), device, "float32").weights
        == int8.size_bytes()
    )


def test_the_plan_says_which_format_each_server_gets(
    fast: bool, tiny: ModelRef, tmp_path: Path
) -> None:
    quantized = ServedVariant("nf4", ModelRef("q", None, tmp_path / "missing"), bits=4)
    plan = check([ServedVariant("base", tiny), quantized], config())
    expected = ["bfloat16" if fast else "float32", "bfloat16"]
    assert [server.dtype.dtype for server in plan.servers] == expected
    assert [next(a for a in s.arguments if a.startswith("--dtype")) for s in plan.servers] == [
        f"--dtype={d}" for d in expected
    ]
    assert any("no instructions for bfloat16" in note for note in plan.notes) is not fast
