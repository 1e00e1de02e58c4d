"""Computes merged weights from the adapter's own tensors: the reference for a merge.

LoRA adds s B A to W (E. Hu et al., 2021), with s = alpha / rank, or alpha / sqrt(rank) in rsLoRA.
DoRA gives each output the length that the adapter learned (S. Liu et al., 2024). PiSSA and OLoRA
start from a part of the weight, which they take out of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foundation.models.lora import of_module
from quantize.merging.adapter_tensors import PAIR_ROLES, Role, is_embedding, is_head

if TYPE_CHECKING:
    import torch

_CONV1D_MODELS = ("gpt2", "openai-gpt")
"""Models whose layers are transformers' Conv1D: the weight is (in, out)."""

_ROUNDING = 1e-5
"""Error of float32 sums over a rank or a row, as a share of the multiplied lengths."""

_PLAIN_STARTS = ("true", "false", "gaussian", "eva", "orthogonal", "mica", "lora_ga")
_TAKEN_OUT = ("pissa", "olora")
_NOT_COMPUTED = (
    "alora_invocation_tokens", "arrow_config", "enable_lora", "kasa_config", "layer_replication",
    "megatron_config", "monteclora_config", "target_parameters", "use_bdlora", "use_qalora",
    "velora_config",
)  # fmt: skip


@dataclass(frozen=True)
class Expected:
    """A tensor's right value, float32, and the error of float32 arithmetic, None for a copy."""

    value: torch.Tensor
    slack: torch.Tensor | None


def why_not_computed(config: Mapping[str, Any]) -> str | None:
    """Why an adapter's merge can't be checked, None where it can."""
    start = str(config.get("init_lora_weights", True)).lower()
    if start not in (*_PLAIN_STARTS, *_TAKEN_OUT):
        return (
            f"init_lora_weights: {start} changes the base's weights in a way that the adapter "
            "does not hold; convert it with PEFT's path_initial_model_for_weight_conversion"
        )
    if key := next((key for key in _NOT_COMPUTED if config.get(key)), None):
        return (
            f"{key}: its merge can't be checked here; merge it where it was trained, "
            "and write the merged folder for model"
        )
    return None


def is_turned(target: str, model_type: object) -> bool:
    """Whether the base stores a weight as (in, out): embeddings, and GPT-2's Conv1D layers."""
    return is_embedding(target) or (model_type in _CONV1D_MODELS and not is_head(target))


def expected(
    target: str,
    base: torch.Tensor,
    parts: Mapping[Role, torch.Tensor],
    config: Mapping[str, Any],
    model_type: object,
) -> Expected:
    """The tensor `target` of the merged model.

    `base` is the base's own tensor, `parts` are the adapter's tensors for it, by role.
    """
    import torch

    value = parts.get("whole", base)
    value = value.float()
    module = target.rpartition(".")[0]
    if "tokens" in parts:
        return Expected(
            value.index_copy(
                0, torch.tensor(token_indices(config, module)), parts["tokens"].float()
            ),
            None,
        )
    if "bias" in parts:
        scale = _scale(
            config, module, int(of_module(config.get("rank_pattern"), module, config["r"]))
        )
        added = scale * parts["bias"].float()
        return Expected(value + added, _ROUNDING * (value.abs() + added.abs()))
    pair = [parts[role].float() for role in PAIR_ROLES if role in parts]
    if not pair:
        return Expected(value, None)
    turned = is_turned(target, model_type)
    result = _with_pair(
        value.T if turned else value, pair[0], pair[1], parts.get("magnitude"), config, module
    )
    return (
        Expected(result.value.T, None if result.slack is None else result.slack.T)
        if turned
        else result
    )


def _with_pair(
    weight: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    magnitude: torch.Tensor | None,
    config: Mapping[str, Any],
    module: str,
) -> Expected:
    """`weight` (out, in), `a` (rank, in), `b` (out, rank), `magnitude` (out)."""
    import torch

    scale = _scale(config, module, a.size(0))
    reach = weight.abs() + abs(scale) * torch.outer(b.norm(dim=1), a.norm(dim=0))
    start = str(config.get("init_lora_weights", True)).lower()
    if start in _TAKEN_OUT:
        taken = _taken_out(weight, start, a.size(0), scale)
        weight, reach = weight - taken, reach + torch.linalg.matrix_norm(weight)
    value = weight + scale * (b @ a)
    if magnitude is not None:
        factor = (magnitude.float().flatten() / value.norm(dim=1))[:, None]
        value, reach = factor * value, factor.abs() * reach
    return Expected(value, _ROUNDING * reach)


def _taken_out(weight: torch.Tensor, start: str, rank: int, scale: float) -> torch.Tensor:
    """The part of the weight that the adapter started from, which training took out of it."""
    import torch

    if start == "pissa":
        left, sizes, right = torch.linalg.svd(weight, full_matrices=False)
        return (left[:, :rank] * sizes[:rank]) @ right[:rank]
    q, r = torch.linalg.qr(weight)
    return scale * (q[:, :rank] @ r[:rank])


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    alpha = float(of_module(config.get("alpha_pattern"), module, config.get("lora_alpha", 8)))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def token_indices(config: Mapping[str, Any], module: str) -> list[int]:
    """The rows of an embedding that are trained one by one, by `trainable_token_indices`."""
    indices = config.get("trainable_token_indices")
    if isinstance(indices, dict):
        indices = next(
            (numbers for name, numbers in indices.items() if f".{module}".endswith(f".{name}")),
            None,
        )
    return (
        indices
        if isinstance(indices, list) and all(isinstance(number, int) for number in indices)
        else []
    )
