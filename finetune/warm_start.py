"""Training that starts from an adapter: it must have the configured shape, and arrive whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetune.config import FinetuneConfig, names_module
from foundation.errors import BadInput, SystemFailed
from foundation.files.json_object import read_object
from foundation.models.adapter_record import base_fingerprint
from foundation.models.lora import PREFIX, WEIGHTS, check_settings
from foundation.models.model import ModelRef
from foundation.models.weights import shapes_of


def check_start(folder: Path, base: ModelRef, config: FinetuneConfig) -> None:
    """Raises BadInput for no adapter, an adapter of another base, or one of another shape."""
    where = f"finetune.warm_start: {folder}"
    try:
        about = read_object(folder / "adapter_config.json")
    except FileNotFoundError:
        raise BadInput(
            f"{where}: no adapter_config.json in it; write the folder of an adapter"
        ) from None
    if about.get("peft_type") != "LORA":
        raise BadInput(
            f"{where}: peft_type: {about.get('peft_type')}; training goes on from a LoRA adapter"
        )
    check_settings(folder / "adapter_config.json", about)
    settings = {
        "rank": (about.get("r"), config.rank),
        "alpha": (about.get("lora_alpha"), config.alpha),
        "method": (_method(about), "lora" if config.method == "qlora" else config.method),
        "modules_to_save": (
            sorted(about.get("modules_to_save") or ()),
            sorted(config.modules_to_save),
        ),
    }
    for key, (theirs, ours) in settings.items():
        if theirs != ours:
            raise BadInput(
                f"finetune.{key}: {ours}, but the adapter {folder} that training starts from "
                f"has {theirs}; write that"
            )
    for key in ("rank_pattern", "alpha_pattern"):
        if about.get(key):
            raise BadInput(
                f"{where}: {key}: an adapter of several ranks can't be trained on; "
                "start from one that has one rank"
            )
    if base_fingerprint(folder) not in (None, base.fingerprint()):
        raise BadInput(
            f"{where}: trained on other weights than those of {base.id}; "
            "start from an adapter of this base"
        )
    _check_tensors(where, folder / WEIGHTS, base, config)


def _check_tensors(where: str, file: Path, base: ModelRef, config: FinetuneConfig) -> None:
    if not file.is_file():
        raise BadInput(f"{where}: no {file.name} in it")
    names = shapes_of(file)
    strange = [name for name in names if not name.startswith(PREFIX)]
    if strange or not names:
        raise BadInput(
            f"{where}: {file.name}: tensors {', '.join(strange[:3]) or 'none'}; "
            f"PEFT's are named {PREFIX}..."
        )
    linear = {
        name.removesuffix(".weight") for name, shape in base.shapes().items() if len(shape) == 2
    }
    adapted = {
        name.removeprefix(PREFIX).partition(".lora_")[0] for name in names if ".lora_A." in name
    }
    if others := sorted(adapted - linear):
        raise BadInput(
            f"{where}: {base.id} has no linear layer {others[0]}; "
            "start from an adapter of this base"
        )
    if config.entries:
        meant = {
            path for path in linear if any(names_module(entry, path) for entry in config.entries)
        }
        if meant != adapted:
            odd = sorted(meant ^ adapted)[0]
            has = "has one for" if odd in adapted else "has none for"
            raise BadInput(
                f"finetune.target_modules: the adapter {where.partition(': ')[2]} {has} {odd}; "
                "write the same modules"
            )


def _method(about: dict[str, Any]) -> str:
    return "dora" if about.get("use_dora") else "rslora" if about.get("use_rslora") else "lora"


def load_start(model: Any, folder: Path) -> None:
    """Copy the adapter's tensors into the model and read them back.

    Raises BadInput for tensors that the model lacks, SystemFailed for one that did not arrive.
    """
    import torch
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    tensors = load_file(folder / WEIGHTS)
    fresh = get_peft_model_state_dict(model, save_embedding_layers=False)
    if odd := sorted(fresh.keys() ^ tensors.keys()):
        side = "lacks" if odd[0] in fresh else "has"
        raise BadInput(
            f"finetune.warm_start: {folder} {side} {odd[0]}, "
            f"unlike the adapter that is to be trained ({len(odd)} such)"
        )
    for name, tensor in tensors.items():
        if tensor.shape != fresh[name].shape:
            raise BadInput(
                f"finetune.warm_start: {folder}: {name}: {list(tensor.shape)}, "
                f"not {list(fresh[name].shape)}"
            )
        if not torch.isfinite(tensor).all():
            raise BadInput(
                f"finetune.warm_start: {folder}: {name} holds values that are no numbers"
            )
    set_peft_model_state_dict(model, tensors)
    loaded = get_peft_model_state_dict(model, save_embedding_layers=False)
    for name, tensor in tensors.items():
        if not torch.equal(loaded[name].cpu(), tensor.to(loaded[name].dtype)):
            raise SystemFailed(f"finetune.warm_start: {folder}: {name} did not arrive in the model")
