"""Does this adapter belong to this base? Asked before anything loads, since a wrong base merges without a sound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from foundation.errors import BadInput
from foundation.model import ModelRef
from foundation.weights import shapes_of

_PREFIX = "base_model.model."


def check_adapter(adapter: Path, base: ModelRef) -> None:
    """Raises BadInput where the folder is no LoRA adapter in safetensors, or was trained for another base.

    The base's fingerprint in `tunedyno.json` decides where there is one. For an adapter from elsewhere, the recorded base id and
    the shape of every weight do.
    """
    config = _read_json(adapter / "adapter_config.json", "not an adapter folder, it has no adapter_config.json")
    if config.get("peft_type") != "LORA":
        raise BadInput(
            f"{adapter}/adapter_config.json: peft_type: {config.get('peft_type')!r}; only LoRA adapters are merged and served"
        )
    if not (adapter / "adapter_model.safetensors").is_file():
        raise BadInput(f"{adapter}: no adapter_model.safetensors; pickle weights are not loaded, save the adapter in safetensors")
    trained_on = str(config.get("base_model_name_or_path") or "")
    fingerprint = _recorded_fingerprint(adapter)
    if fingerprint is not None:
        if fingerprint != base.fingerprint():
            raise BadInput(f"{adapter}: trained on {trained_on}, whose weights are not those of {base.id} ({base.path})")
        return
    if _is_hub_id(trained_on) and _is_hub_id(base.id) and trained_on.lower() != base.id.lower():
        raise BadInput(
            f"{adapter}: trained on {trained_on}, not on {base.id}; name that model, or an adapter trained on this one"
        )
    _check_shapes(adapter, base)


def _recorded_fingerprint(adapter: Path) -> str | None:
    file = adapter / "tunedyno.json"
    if not file.is_file():
        return None
    recorded = _read_json(file, "").get("base")
    fingerprint = recorded.get("fingerprint") if isinstance(recorded, dict) else None
    return fingerprint if isinstance(fingerprint, str) else None


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith(("/", ".", "~"))


def _check_shapes(adapter: Path, base: ModelRef) -> None:
    weights = base.shapes()
    for name, shape in shapes_of(adapter / "adapter_model.safetensors").items():
        module, _, part = name.removeprefix(_PREFIX).partition(".lora_")
        if part not in ("A.weight", "B.weight"):
            continue
        target = weights.get(f"{module}.weight")
        if target is None:
            raise BadInput(f"{adapter}: adapts {module}, which {base.id} does not have: it was trained on another model")
        # A is (rank, in), B is (out, rank), the weight (out, in).
        ours, theirs = (shape[1], target[1]) if part == "A.weight" else (shape[0], target[0])
        if ours != theirs:
            side = "inputs" if part == "A.weight" else "outputs"
            raise BadInput(
                f"{adapter}: {module} has {ours} {side} there and {theirs} in {base.id}: it was trained on another model"
            )


def _read_json(file: Path, missing: str) -> dict[str, Any]:
    try:
        parsed = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{file.parent}: {missing}") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{file}: not JSON ({error})") from None
    if not isinstance(parsed, dict):
        raise BadInput(f"{file}: not a JSON object")
    return parsed
