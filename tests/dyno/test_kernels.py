from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dyno.checks.kernels import check_kernels
from dyno.experiment.schema import Experiment
from foundation.errors import BadInput
from tests.serve.adapter_bytes import write_base


def experiment(variant: dict[str, Any]) -> Experiment:
    workload = {"stages": [{"concurrency": 1, "requests": 1}]}
    raw = {
        "name": "x",
        "model": "m",
        "data": {"eval": "e"},
        "baseline": "v",
        "workload": workload,
        "serve": {"device": "cpu"},
    }
    return Experiment.model_validate({**raw, "variants": [{"name": "v", **variant}]})


def test_a_format_that_a_processor_has_no_kernel_for(tmp_path: Path) -> None:
    plain = {"m": write_base(tmp_path / "plain")}
    check_kernels(experiment({}), plain)
    check_kernels(experiment({"quantize": "w8a8-int8"}), plain)
    with pytest.raises(
        BadInput, match=r"variants\.v\.quantize: nvfp4 can't be served here: .*CUDA"
    ):
        check_kernels(experiment({"quantize": "nvfp4"}), plain)
    stored = {"m": write_base(tmp_path / "fp8", quantization_config={"quant_method": "fp8"})}
    with pytest.raises(
        BadInput, match=r"variants\.v: .*fp8: quantized already, and can't be served here: .*FP8"
    ):
        check_kernels(experiment({}), stored)


@pytest.mark.parametrize(
    "stored",
    [
        {"quant_method": "gptq", "bits": 8},
        {
            "quant_method": "compressed-tensors",
            "config_groups": {
                "four": {"weights": {"num_bits": 4, "type": "int"}},
                "eight": {"weights": {"num_bits": 8, "type": "int"}},
            },
        },
    ],
)
def test_weights_of_8_bits_without_rounded_activations_on_a_cpu(
    stored: dict[str, Any], tmp_path: Path
) -> None:
    model = write_base(tmp_path / "w8a16", quantization_config=stored)
    with pytest.raises(
        BadInput, match=r"variants\.v: .*quantized already, .*no kernel for W8A16.*CUDA"
    ):
        check_kernels(experiment({}), {"m": model})


def test_an_adapter_on_a_base_of_integers(tmp_path: Path) -> None:
    group = {"weights": {"num_bits": 8, "type": "int"}, "input_activations": {"num_bits": 8}}
    int8 = write_base(
        tmp_path / "int8",
        quantization_config={"quant_method": "compressed-tensors", "config_groups": {"g": group}},
    )
    check_kernels(experiment({}), {"m": int8})
    with pytest.raises(
        BadInput, match=r"variants\.v\.adapter: .*int8 is w8a8-int8, on which .* no adapter"
    ):
        check_kernels(experiment({"adapter": "a"}), {"m": int8})


def test_an_architecture_that_nothing_here_serves(tmp_path: Path) -> None:
    for known in (
        "GPT2LMHeadModel",
        "Qwen2VLForConditionalGeneration",
        "ArceeForCausalLM",
    ):  # the last by way of transformers
        check_kernels(experiment({}), {"m": write_base(tmp_path / known, architectures=[known])})
    check_kernels(
        experiment({}),
        {
            "m": write_base(
                tmp_path / "own", architectures=["Own"], auto_map={"AutoModel": "own.Own"}
            )
        },
    )
    with pytest.raises(
        BadInput,
        match=r"variants\.v: .*architectures: the installed vLLM serves no MadeUpForCausalLM",
    ):
        check_kernels(
            experiment({}), {"m": write_base(tmp_path / "odd", architectures=["MadeUpForCausalLM"])}
        )
