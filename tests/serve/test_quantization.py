"""The format of a checkpoint that somebody else quantized, by its own settings."""

from __future__ import annotations

from typing import Any

import pytest

from serve.vllm.quantization import stored_formats, why_not_on_cpu, why_not_on_cuda


def packed(bits: int, kind: str, activations: bool, **weights: Any) -> dict[str, Any]:
    group = {
        "weights": {"num_bits": bits, "type": kind, **weights},
        "input_activations": {"num_bits": bits} if activations else None,
    }
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}


@pytest.mark.parametrize(
    ("settings", "method"),
    [
        (packed(8, "int", True), "w8a8-int8"),
        (packed(8, "int", False), "w8a16"),
        (packed(3, "int", False), "wna16"),
        (packed(4, "int", False), "w4a16"),
        (packed(8, "float", True), "fp8-dynamic"),
        (packed(8, "float", False), "w8a16-fp8"),
        (packed(4, "float", True), "nvfp4"),
        (packed(4, "float", False, group_size=32), "mxfp4"),
        (packed(8, "float", True, group_size=32), "mxfp8"),
        (packed(4, "int", True), None),
        ({"quant_method": "gptq", "bits": 4}, "w4a16"),
        ({"quant_method": "gptq", "bits": 8}, "w8a16"),
        ({"quant_method": "fp8"}, "fp8-dynamic"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bnb-nf4"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bnb-int8"),
        ({"quant_method": "compressed-tensors"}, None),
        ({}, None),
    ],
)
def test_what_a_checkpoint_is_quantized_as(settings: dict[str, Any], method: str | None) -> None:
    assert stored_formats(settings) == ([] if method is None else [method])


def test_mixed_precision_has_several_formats() -> None:
    groups = {
        name: packed(*of)["config_groups"]["group_0"]
        for name, of in {
            "a": (4, "int", False),
            "b": (8, "int", False),
            "c": (4, "int", False),
        }.items()
    }
    mixed = {"quant_method": "compressed-tensors", "config_groups": groups}
    assert stored_formats(mixed) == ["w4a16", "w8a16"]


def test_what_a_processor_has_no_kernel_for() -> None:
    """From the lists of kernels in vLLM's source: on a CPU only 4-bit integers stay packed."""
    everything = (
        "w8a8-int8", "w4a16", "fp8-dynamic", "nvfp4", "bnb-nf4", "bnb-int8",
        "w8a16", "wna16", "w8a16-fp8", "mxfp4", "mxfp8",
    )  # fmt: skip
    served = [each for each in everything if why_not_on_cpu(each) is None]
    assert served == ["w8a8-int8", "w4a16", "bnb-nf4", "bnb-int8"]


@pytest.mark.parametrize(
    ("number_format", "first"), [("fp8-dynamic", 7.5), ("fbgemm-fp8", 8.0), ("nvfp4", 7.5)]
)
def test_the_first_gpu_that_serves_a_format(number_format: str, first: float) -> None:
    """`get_min_capability` in vLLM's source: before 8.9 FP8 weights meet 16-bit activations."""
    assert why_not_on_cuda(number_format, first) is None
    why = why_not_on_cuda(number_format, 7.0)
    assert why is not None and f"from compute capability {first} on" in why
