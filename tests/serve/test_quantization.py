"""The format of a checkpoint that somebody else quantized, by its own settings."""

from __future__ import annotations

from typing import Any

import pytest

from quantize.config import Method
from serve.vllm.quantization import stored_method, why_not_on_cpu


def packed(bits: int, kind: str, activations: bool) -> dict[str, Any]:
    group = {
        "weights": {"num_bits": bits, "type": kind},
        "input_activations": {"num_bits": bits} if activations else None,
    }
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}


@pytest.mark.parametrize(
    ("settings", "method"),
    [
        (packed(8, "int", True), "w8a8-int8"),
        (packed(8, "int", False), None),
        (packed(4, "int", False), "w4a16"),
        (packed(8, "float", True), "fp8-dynamic"),
        (packed(4, "float", True), "nvfp4"),
        ({"quant_method": "gptq", "bits": 4}, "w4a16"),
        ({"quant_method": "gptq", "bits": 8}, None),
        ({"quant_method": "fp8"}, "fp8-dynamic"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bnb-nf4"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bnb-int8"),
        ({"quant_method": "compressed-tensors"}, None),
        ({}, None),
    ],
)
def test_what_a_checkpoint_is_quantized_as(settings: dict[str, Any], method: Method | None):
    assert stored_method(settings) == method


def test_what_a_processor_has_no_kernel_for():
    assert [m for m in ("fp8-dynamic", "nvfp4", "w4a16") if why_not_on_cpu(m)] == [
        "fp8-dynamic",
        "nvfp4",
    ]
