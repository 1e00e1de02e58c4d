"""Checks a written `quantization_config`: the key of `config.json` that a server reads."""

from __future__ import annotations

from typing import Any

from foundation.errors import SystemFailed
from foundation.models.model import ModelRef
from quantize.plan import QuantizationPlan


def check_description(plan: QuantizationPlan, written: ModelRef) -> None:
    """Raises SystemFailed where the config at `written` describes anything but the plan."""
    file = f"{written.path}/config.json"
    about: Any = written.config().get("quantization_config")
    if not isinstance(about, dict):
        raise SystemFailed(f"{file}: has no quantization_config, and the weights are quantized")
    if plan.method.scheme is None:
        expected, stored = _bitsandbytes(plan), about
        ignored = about.get("llm_int8_skip_modules")
    else:
        expected, stored = _compressed_tensors(plan), _first_group(about)
        ignored = about.get("ignore")
    for key, value in expected.items():
        if stored.get(key) != value:
            raise SystemFailed(f"{file}: {key} is {stored.get(key)!r}, and {value!r} was asked for")
    if not plan.config.calibrated and (lost := sorted(set(plan.kept) - set(ignored or ()))):
        raise SystemFailed(f"{file}: {lost[0]} is kept in full precision, and not named there")


def _bitsandbytes(plan: QuantizationPlan) -> dict[str, object]:
    four = plan.method.bits == 4
    expected = {"quant_method": "bitsandbytes", "load_in_4bit": four, "load_in_8bit": not four}
    return expected | ({"bnb_4bit_quant_type": "nf4"} if four else {})


def _compressed_tensors(plan: QuantizationPlan) -> dict[str, object]:
    expected: dict[str, object] = {
        "quant_method": "compressed-tensors",
        "num_bits": plan.method.bits,
        "type": plan.method.number,
        "symmetric": True,
    }
    return expected | ({"group_size": plan.group_size} if plan.group_size else {})


def _first_group(about: dict[str, Any]) -> dict[str, Any]:
    [group] = about.get("config_groups", {}).values() or [{}]
    return {**(group.get("weights") or {}), "quant_method": about.get("quant_method")}
