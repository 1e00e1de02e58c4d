"""Whether vLLM can serve an adapter beside its base, by `adapter_config.json`.

`lora_tensors` checks the adapter's tensors. vLLM itself refuses an adapter only when it loads it
(its rules: `vllm/lora/peft_helper.py`): a minute too late, and as an HTTP 500.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from foundation.errors import BadInput
from foundation.files.json_object import read_object
from foundation.models.lora import WEIGHTS
from serve.vllm.lora_tensors import MERGE

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values of `--max-lora-rank` (`vllm/config/lora.py`)."""

# Initializations that keep the base's weights. PiSSA, OLoRA, CorDA and LoftQ change them, so that
# the adapter alone is not enough.
_PLAIN_INITS = {"gaussian", "eva", "orthogonal", "mica", "lora_ga"}

_REQUIRED = ("r", "lora_alpha", "target_modules")


def lora_rank(variant: str, adapter: Path) -> int:
    """The highest rank in an adapter. Raises BadInput with the reason if vLLM can't serve it."""
    config = read_config(variant, adapter)
    if not (adapter / WEIGHTS).is_file():
        raise BadInput(f"variants.{variant}.adapter: {adapter}: no {WEIGHTS}")
    if reason := next(_refusals(config), None):
        file = adapter / "adapter_config.json"
        raise BadInput(
            f"variants.{variant}.adapter: {file}: vLLM can't serve it: {reason}; {MERGE}"
        )
    return int(max(_ranks(config)))


def read_config(variant: str, adapter: Path) -> dict[str, Any]:
    """`adapter_config.json`, parsed. Raises BadInput if it is missing or broken."""
    file = adapter / "adapter_config.json"
    try:
        return read_object(file)
    except FileNotFoundError:
        raise BadInput(
            f"variants.{variant}.adapter: {adapter}: "
            "not an adapter folder, it has no adapter_config.json"
        ) from None


def max_lora_rank(rank: int) -> int:
    """The smallest `--max-lora-rank` that holds an adapter of this rank."""
    return next(limit for limit in RANKS if limit >= rank)


def check_rank(variant: str, rank: int) -> None:
    """Raises BadInput for a rank that no server takes."""
    if not 0 < rank <= RANKS[-1]:
        raise BadInput(
            f"variants.{variant}.adapter: rank {rank}: "
            f"vLLM serves ranks from 1 to {RANKS[-1]}; {MERGE}"
        )


def _ranks(config: Mapping[str, Any]) -> list[Any]:
    patterns = config.get("rank_pattern")
    return [config.get("r", 0), *(patterns.values() if isinstance(patterns, dict) else ())]


def _refusals(config: Mapping[str, Any]) -> Iterator[str]:
    if (kind := config.get("peft_type", "LORA")) != "LORA":
        yield f"it is a {kind} adapter, not LoRA"
    if missing := [key for key in _REQUIRED if key not in config]:
        yield f"it does not say {missing[0]}"
    for rank in _ranks(config):
        if not isinstance(rank, int) or not 0 < rank <= RANKS[-1]:
            yield f"its rank is {rank}, and vLLM's limit is {RANKS[-1]}"
    if config.get("use_dora"):
        yield "it is a DoRA adapter"
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        yield "it trains biases"
    if modules := config.get("modules_to_save"):
        yield f"it replaces whole modules ({', '.join(modules)})"
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.lower() not in _PLAIN_INITS:
        yield f"it was started with {init}, which changes the base model's weights"
    for key in (
        "layer_replication",
        "alora_invocation_tokens",
        "use_bdlora",
        "use_qalora",
        "trainable_token_indices",
    ):
        if config.get(key):
            yield f"it uses {key}"
