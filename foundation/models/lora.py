"""PEFT's names of LoRA tensors, and its rules for module names in `adapter_config.json`."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foundation.errors import BadInput

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."


def check_settings(file: Path, config: Mapping[str, Any]) -> None:
    """Raises BadInput for names, patterns or numbers of another type than PEFT's."""
    for key in ("target_modules", "exclude_modules"):
        if not _is_pattern(value := config.get(key)) and not _are_names(value):
            raise BadInput(
                f"{file}: {key}: {reprlib.repr(value)}; write a list of names, or one pattern"
            )
    if not _are_names(value := config.get("modules_to_save")):
        raise BadInput(f"{file}: modules_to_save: {reprlib.repr(value)}; write a list of names")
    for key in ("rank_pattern", "alpha_pattern"):
        value = config.get(key) or {}
        if not isinstance(value, dict) or not all(
            _is_pattern(_ending(name)) and _is_number(n) for name, n in value.items()
        ):
            raise BadInput(f"{file}: {key}: {reprlib.repr(value)}; write {{PATTERN: NUMBER}}")
    for key in ("r", "lora_alpha"):
        if not _is_number(config.get(key, 8)):  # 8 is PEFT's default for both
            raise BadInput(f"{file}: {key}: {reprlib.repr(config[key])}; write a number")
    if config.get("lora_alpha") == 0:
        raise BadInput(
            f"{file}: lora_alpha: 0 leaves nothing of the adapter; "
            "write the number it was trained with"
        )


def of_module(patterns: Mapping[str, Any] | None, module: str, otherwise: Any) -> Any:
    """A module's value in `rank_pattern` or `alpha_pattern`, or `otherwise`.

    The first key whose name, or pattern, matches the end of the module's name counts.
    """
    fitting = (value for key, value in (patterns or {}).items() if re.match(_ending(key), module))
    return next(fitting, otherwise)


def is_targeted(targets: str | list[str] | None, module: str) -> bool:
    """Whether `target_modules`, or `exclude_modules`, names a module.

    A string is a pattern for the module's whole path; a list has endings of the path.
    """
    if isinstance(targets, str):
        return re.fullmatch(targets, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in targets or ())


def _ending(pattern: str) -> str:
    return rf"(.*\.)?({pattern})$"


def _are_names(value: object) -> bool:
    return value is None or (
        isinstance(value, list) and all(isinstance(name, str) for name in value)
    )


def _is_pattern(value: object) -> bool:
    try:
        return isinstance(value, str) and re.compile(value) is not None
    except (re.error, RecursionError, OverflowError):
        return False


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and -1e9 < value < 1e9  # so that NaN is none
