"""Checks, before anything loads, that an adapter is whole and belongs to its base."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foundation.errors import BadInput
from foundation.files.json_object import read_object
from foundation.models.adapter_record import base_fingerprint
from foundation.models.loading import ADAPTER_CONFIG, listed
from foundation.models.lora import WEIGHTS, check_settings, is_targeted
from foundation.models.model import ModelRef
from foundation.models.tokenizer import new_tokens
from foundation.models.weights import Shapes, shapes_of
from quantize.merging.adapter_tensors import (
    PAIR_ROLES,
    Parts,
    Role,
    TensorNames,
    check_complete,
    check_values,
    is_embedding,
    is_head,
    parts_of,
)
from quantize.merging.arithmetic import is_turned, token_indices, why_not_computed
from quantize.merging.recorded_base import check_base

_Shape = tuple[int, ...]

_KNOWN = {
    "alora_invocation_tokens", "alpha_pattern", "arrow_config", "auto_mapping",
    "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying", "eva_config",
    "exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights", "kasa_config",
    "layer_replication", "layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha",
    "lora_bias", "lora_dropout", "lora_ga_config", "megatron_config", "megatron_core",
    "modules_to_save", "monteclora_config", "peft_type", "peft_version", "qalora_group_size",
    "r", "rank_pattern", "revision", "target_modules", "target_parameters", "task_type",
    "trainable_token_indices", "unsloth_version", "use_bdlora", "use_dora", "use_qalora",
    "use_rslora", "velora_config",
}  # fmt: skip
"""The settings of LoRA in PEFT 0.21, and marks that change nothing."""


def check_adapter(adapter: Path, base: ModelRef) -> list[str]:
    """Warnings for an adapter that can be merged into this base.

    The base's fingerprint in `tunedyno.json` decides whether it is the right base. For an adapter
    from elsewhere, the recorded name and the shape of every weight do. Raises BadInput where the
    folder is no whole LoRA adapter in safetensors, where it would change nothing, where its merge
    can't be checked, or where it was trained on another base.
    """
    config = read_adapter_config(adapter)
    check_settings(adapter / ADAPTER_CONFIG, config)
    if not (adapter / WEIGHTS).is_file():
        raise BadInput(
            f"{adapter}: no {WEIGHTS}; pickle weights are not loaded, "
            "save the adapter in safetensors"
        )
    if reason := why_not_computed(config):
        raise BadInput(f"{adapter}/{ADAPTER_CONFIG}: {reason}")
    parts = parts_of(adapter)
    warnings = check_values(adapter, parts)
    check_complete(adapter, parts, config)
    recorded = str(config.get("base_model_name_or_path") or "")
    renamed = check_base(adapter, recorded, base_fingerprint(adapter), base)
    names = TensorNames(shapes := base.shapes(), tied=is_tied(base))
    _check_shapes(adapter, parts, base, config, names)
    _check_tying(adapter, parts, base, config)
    _check_vocabulary(adapter, parts, base, shapes)
    _check_targets(adapter, parts, config, names, shapes)
    if unknown := sorted(key for key in config.keys() - _KNOWN if config[key]):
        warnings.append(
            f"{adapter}/{ADAPTER_CONFIG}: {listed(unknown)}: not known here, and without effect"
        )
    return warnings + ([renamed] if renamed else [])


def read_adapter_config(adapter: Path) -> dict[str, Any]:
    """`adapter_config.json`, parsed.

    Raises BadInput where it is missing, no JSON object, or not LoRA's.
    """
    try:
        config = read_object(adapter / ADAPTER_CONFIG)
    except FileNotFoundError:
        raise BadInput(f"{adapter}: not an adapter folder, it has no {ADAPTER_CONFIG}") from None
    if config.get("peft_type") != "LORA":
        raise BadInput(
            f"{adapter}/{ADAPTER_CONFIG}: peft_type: {config.get('peft_type')!r}; "
            "only LoRA adapters are merged and served"
        )
    return config


def is_tied(base: ModelRef) -> bool:
    """Whether input embeddings and output head are one matrix."""
    tied = base.config().get("tie_word_embeddings")
    return bool(tied) if tied is not None else not any(is_head(name) for name in base.shapes())


def _check_shapes(
    adapter: Path, parts: Parts, base: ModelRef, config: Mapping[str, Any], names: TensorNames
) -> None:
    saved, shapes = shapes_of(adapter / WEIGHTS), base.shapes()
    model_type = base.config().get("model_type")
    for target, roles in parts.items():
        name, module = names.find(target), target.rpartition(".")[0]
        if name is None and "bias" in roles and names.find(f"{module}.weight"):
            raise BadInput(
                f"{adapter}: trains a bias of {module}, and {base.id} has none there "
                "to merge it into; train without lora_bias"
            )
        if name is None:
            raise _of_another_model(adapter, f"adapts {module}, which {base.id} does not have")
        shape = shapes[name]
        ours = {role: saved[tensor] for role, tensor in roles.items()}
        if "whole" in ours:
            _check_whole(adapter, target, ours["whole"], shape, base)
            shape = ours["whole"]
        if "tokens" in ours:
            _check_tokens(adapter, module, ours["tokens"], shape, token_indices(config, module))
        if "bias" in ours and ours["bias"] != shape:
            raise _of_another_model(
                adapter, f"{target} is {ours['bias']} there and {shape} in {base.id}"
            )
        if any(role in ours for role in PAIR_ROLES):
            if len(shape) != 2:
                raise _of_another_model(
                    adapter, f"adapts {module}, which is no matrix in {base.id}"
                )
            # A pair of matrices changes (out, in): a layer that lies turned is (in, out).
            sides = shape[::-1] if is_turned(target, model_type) else shape
            _check_pair(adapter, module, ours, (sides[0], sides[1]), base)


def _of_another_model(adapter: Path, what: str) -> BadInput:
    return BadInput(f"{adapter}: {what}: it was trained on another model")


def _check_whole(adapter: Path, target: str, ours: _Shape, theirs: _Shape, base: ModelRef) -> None:
    """New tokens may add rows to embeddings and head; all else is the base's."""
    may_grow = is_embedding(target) or is_head(target)
    if ours[1:] != theirs[1:] or (ours[0] != theirs[0] and not may_grow):
        raise _of_another_model(adapter, f"{target} is {ours} there and {theirs} in {base.id}")


def _check_tokens(
    adapter: Path, module: str, ours: _Shape, embeddings: _Shape, indices: list[int]
) -> None:
    fits = ours == (len(indices), *embeddings[1:])
    if not fits or not all(0 <= i < embeddings[0] for i in indices):
        raise BadInput(
            f"{adapter}: the trained rows of {module} are not those "
            "that trainable_token_indices names"
        )


def _check_pair(
    adapter: Path,
    module: str,
    ours: Mapping[Role, _Shape],
    sides: tuple[int, int],
    base: ModelRef,
) -> None:
    """`sides`: outputs and inputs of the base's layer. A is (rank, in), B is (out, rank)."""
    outputs, inputs = sides
    a, b = [ours[role] for role in PAIR_ROLES if role in ours]
    for mine, its, side in ((a[1], inputs, "inputs"), (b[0], outputs, "outputs")):
        if mine != its:
            raise _of_another_model(
                adapter, f"{module} has {mine} {side} there and {its} in {base.id}"
            )
    if "magnitude" in ours and math.prod(ours["magnitude"]) != outputs:
        raise _of_another_model(
            adapter, f"{module} has no lora_magnitude_vector of {outputs} lengths"
        )


def _check_tying(adapter: Path, parts: Parts, base: ModelRef, config: Mapping[str, Any]) -> None:
    """Refuse a pair that is tied like its embeddings: PEFT adds it twice, as input and as head."""
    pairs = [
        target for target, roles in parts.items() if is_embedding(target) and "embedding_A" in roles
    ]
    if pairs and config.get("ensure_weight_tying") and is_tied(base):
        raise BadInput(
            f"{adapter}/{ADAPTER_CONFIG}: ensure_weight_tying: a LoRA pair for tied embeddings "
            "can't be merged; train them whole (modules_to_save), or not at all"
        )


def _check_vocabulary(adapter: Path, parts: Parts, base: ModelRef, shapes: Shapes) -> None:
    """Refuse new tokens unless the embeddings, and a head of its own, both bring rows for them."""
    saved = shapes_of(adapter / WEIGHTS)
    rows = {
        target: saved[roles["whole"]][0]
        for target, roles in parts.items()
        if "whole" in roles and len(saved[roles["whole"]]) == 2
    }
    rows = {
        target: number for target, number in rows.items() if is_embedding(target) or is_head(target)
    }
    ours = {
        name: shape[0]
        for name, shape in shapes.items()
        if is_embedding(name) or (is_head(name) and not is_tied(base))
    }
    most = max([*rows.values(), *ours.values()], default=0)
    for token, number in new_tokens(adapter, base.path).items():
        if number >= most:
            raise BadInput(
                f"{adapter}/tokenizer.json: {token} is token {number}, and {most} is how many have "
                "embeddings: those of tokens that were added are missing; "
                "save the adapter with save_embedding_layers=True"
            )
    grown = {target: number for target, number in rows.items() if number not in ours.values()}
    if not grown:
        return
    target, number = next(iter(grown.items()))
    if len(set(rows.values())) > 1 or len(rows) < len(ours):
        lacking = "the embeddings and the output head" if len(ours) > 1 else "the embeddings"
        raise BadInput(
            f"{adapter}: {target} has {number} rows, {base.id} has {next(iter(ours.values()))}: "
            f"tokens were added, and {lacking} must both bring their rows; "
            "save the adapter with save_embedding_layers=True"
        )


def _check_targets(
    adapter: Path, parts: Parts, config: Mapping[str, Any], names: TensorNames, shapes: Shapes
) -> None:
    """Refuse pairs that the config does not name, and named weights without a pair.

    PEFT would pass over the first, and start the second from a pair that changes nothing.
    """
    if stray := [target for target in parts if _is_passed_over(config, target, parts[target])]:
        raise BadInput(
            f"{adapter}/{WEIGHTS}: holds a LoRA pair for {listed(stray)}, "
            f"which {ADAPTER_CONFIG} does not name: PEFT would pass over it; "
            f"put the {ADAPTER_CONFIG} there that it was saved with"
        )
    changed = {names.find(target) for target in parts}
    missing = [
        name
        for name, shape in shapes.items()
        if name not in changed
        and name.endswith(".weight")
        and _is_named(config, name.removesuffix(".weight"), len(shape))
    ]
    if missing:
        raise BadInput(
            f"{adapter}: {ADAPTER_CONFIG} names {listed(missing)}, "
            f"and {WEIGHTS} holds nothing for it; save the adapter again"
        )


def _is_passed_over(config: Mapping[str, Any], target: str, roles: Mapping[Role, str]) -> bool:
    """Whether the config names the modules that have pairs, and surely not this one."""
    targets, module = config.get("target_modules"), target.rpartition(".")[0]
    if not isinstance(targets, list) or ".experts." in module:
        return False
    pair = any(role in roles for role in PAIR_ROLES)
    return pair and (
        not is_targeted(targets, module) or is_targeted(config.get("exclude_modules"), module)
    )


def _is_named(config: Mapping[str, Any], module: str, dimensions: int) -> bool:
    """Whether the config surely names a module.

    Layers by number, and experts that a model fuses, only PEFT can tell.
    """
    if any(f".{name}." in f".{module}." for name in config.get("modules_to_save") or []):
        return True
    targets, excluded = config.get("target_modules"), config.get("exclude_modules")
    if (
        config.get("layers_to_transform") is not None
        or ".experts." in module
        or is_targeted(excluded, module)
    ):
        return False
    return dimensions == 2 and targets != "all-linear" and is_targeted(targets, module)
