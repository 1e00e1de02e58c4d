"""The tensors of a LoRA adapter, by its header: the base's tensor that each changes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from foundation.errors import BadInput
from foundation.models.loading import listed
from foundation.models.lora import PREFIX, WEIGHTS, of_module
from foundation.models.weights import StoredTensor, headers_of, values_of

Role = Literal["A", "B", "embedding_A", "embedding_B", "magnitude", "bias", "tokens", "whole"]
Parts = dict[str, dict[Role, str]]
"""The adapter's tensors by the base's tensor that they change, and by their role.

A base's tensor is such as "model.layers.0.mlp.up_proj.weight".
"""

PAIR_ROLES: tuple[Role, ...] = ("A", "B", "embedding_A", "embedding_B")

_ENDINGS: dict[str, tuple[Role, str]] = {
    "lora_A.weight": ("A", "weight"),
    "lora_B.weight": ("B", "weight"),
    "lora_B.bias": ("bias", "bias"),
    "lora_embedding_A": ("embedding_A", "weight"),
    "lora_embedding_B": ("embedding_B", "weight"),
    "lora_magnitude_vector": ("magnitude", "weight"),
    "lora_magnitude_vector.weight": ("magnitude", "weight"),
    "token_adapter.trainable_tokens_delta": ("tokens", "weight"),
}
_EMBEDDINGS = ("embed_tokens", "wte", "embed_in", "word_embeddings", "tok_embeddings")
_HEADS = ("lm_head", "embed_out")
_DEFAULT = re.compile(
    r"([.]lora_(?:[AB]|embedding_[AB]|magnitude_vector))[.]default(?=[.](?:weight|bias)$|$)"
)
"""The name of an adapter in memory, in a state dict saved as it is; PEFT reads those too."""

_NAMED = re.compile(
    r"[.](lora_[AB][.][^.]+[.](weight|bias)$|lora_embedding_[AB][.]|lora_magnitude_vector[.](?!weight$)|modules_to_save[.])"
)
"""The same with any other name, which PEFT passes over."""

_COPY = re.compile(r"(.+[.])(?:modules_to_save|original_module)[.](.+)")
"""A module that was trained whole and has new rows.

It is written three times: as itself, and as both modules that it was in.
"""

_SAVE_AGAIN = "save the adapter again with PEFT's save_pretrained"


class TensorNames:
    """A checkpoint's names, looked up by the names of a model in memory.

    A file may leave out, or add, the first part of a name ("transformer.", "model."), and call the
    output head otherwise. With `tied`, the embeddings are the head unless a head is in the file.
    """

    def __init__(self, names: Iterable[str], *, tied: bool = False) -> None:
        self._names = set(names)
        self._without_first = {name.partition(".")[2]: name for name in self._names}
        heads = [name for name in sorted(self._names) if is_head(name)]
        embeddings = [name for name in sorted(self._names) if tied and is_embedding(name)]
        self._head = next(iter(heads + embeddings), None)

    def find(self, name: str) -> str | None:
        """The checkpoint's own name, None where it has no such tensor."""
        if name in self._names:
            return name
        shorter = name.partition(".")[2]
        if shorter in self._names:
            return shorter
        return self._without_first.get(name) or (self._head if is_head(name) else None)


def is_embedding(name: str) -> bool:
    """Whether a tensor is the input embeddings, one row a token."""
    return name.endswith(tuple(f"{module}.weight" for module in _EMBEDDINGS))


def is_head(name: str) -> bool:
    """Whether a tensor is the weight of the output head, one row a token."""
    return name.endswith(tuple(f"{module}.weight" for module in _HEADS))


def parts_of(adapter: Path) -> Parts:
    """Every tensor of the adapter's file.

    Raises BadInput for an empty file, and for a name that PEFT would pass over.
    """
    file = adapter / WEIGHTS
    headers = headers_of(file)
    names = [
        name
        for name in headers
        if not ((copy := _COPY.fullmatch(name)) and "".join(copy.groups()) in headers)
    ]
    if not names:
        raise BadInput(
            f"{file}: holds no tensor: nothing was trained, or it was saved from a sharded model; "
            f"{_SAVE_AGAIN}"
        )
    _check_names(file, names)
    parts: Parts = {}
    for name in names:
        target, role = _target(_DEFAULT.sub(r"\1", name.removeprefix(PREFIX)))
        if "lora_" in target:
            raise BadInput(
                f"{file}: {name}: not a tensor of plain LoRA or DoRA, "
                f"so its merge can't be checked; {_SAVE_AGAIN}"
            )
        if role in (roles := parts.setdefault(target, {})):
            raise BadInput(
                f"{file}: {name} and {roles[role]} are both for {target}; keep one of them"
            )
        roles[role] = name
    return parts


def _check_names(file: Path, names: Collection[str]) -> None:
    def refuse(wrong: list[str], why: str, remedy: str) -> None:
        if wrong:
            raise BadInput(
                f"{file}: {len(wrong)} of {len(names)} names {why} ({wrong[0]}); "
                f"PEFT would pass over them; {remedy}"
            )

    refuse(
        [name for name in names if not name.startswith(PREFIX)],
        f"do not begin with {PREFIX}",
        f"write that before each, or {_SAVE_AGAIN}",
    )
    refuse(
        [name for name in names if "_orig_mod." in name],
        "hold _orig_mod., which torch.compile adds",
        f"leave it out, or {_SAVE_AGAIN}",
    )
    refuse(
        [name for name in names if _NAMED.search(_DEFAULT.sub(r"\1", name))],
        "hold a name of the adapter's own, as lora_A.mine.weight does",
        f"write lora_A.weight, or {_SAVE_AGAIN}",
    )


def _target(name: str) -> tuple[str, Role]:
    for ending, (role, parameter) in _ENDINGS.items():
        if name.endswith(f".{ending}"):
            return f"{name.removesuffix(ending)}{parameter}", role
    return name.replace(".base_layer.", "."), "whole"


def check_values(adapter: Path, parts: Parts) -> list[str]:
    """Warnings about the numbers; none where every LoRA pair changes its weight.

    Raises BadInput for NaN and infinities, for tensors of size 0, and for an adapter that changes
    nothing.
    """
    file = adapter / WEIGHTS
    if hollow := [name for name, tensor in headers_of(file).items() if 0 in tensor.shape]:
        raise BadInput(
            f"{file}: {listed(hollow)}: of size 0, as a sharded model saves them; "
            "gather the weights, then save"
        )
    values = values_of(file)
    if broken := [name for name, value in values.items() if not value.finite]:
        raise BadInput(
            f"{file}: {listed(broken)}: NaN or infinity: training went wrong; "
            "take an earlier checkpoint"
        )
    zero = {name for name, value in values.items() if value.zero}
    whole = [
        roles["whole"]
        for target, roles in parts.items()
        if "whole" in roles and not target.endswith("bias")
    ]
    if wiped := zero.intersection(whole):
        raise BadInput(
            f"{file}: {listed(wiped)}: nothing but zeros in place of a trained weight; "
            f"{_SAVE_AGAIN}"
        )
    return _check_pairs(file, parts, zero)


def _check_pairs(file: Path, parts: Parts, zero: Collection[str]) -> list[str]:
    """A warning where some LoRA pairs are zero. Raises BadInput where nothing else is there."""
    pairs = {
        target: names
        for target, roles in parts.items()
        if (names := [roles[role] for role in PAIR_ROLES if role in roles])
    }
    idle = [
        target
        for target, names in pairs.items()
        if any(name in zero for name in names) and "magnitude" not in parts[target]
    ]
    if idle and len(idle) == len(parts):
        raise BadInput(
            f"{file}: every B or A is zero, so it changes nothing: it is not trained; "
            "train it, or leave it out"
        )
    if not idle:
        return []
    return [
        f"{file}: {len(idle)} of {len(pairs)} LoRA pairs are zero and change nothing ({idle[0]})"
    ]


def check_complete(adapter: Path, parts: Parts, config: Mapping[str, Any]) -> None:
    """Raises BadInput where a tensor's counterpart is missing, or its rank is not the config's."""
    file = adapter / WEIGHTS
    headers = headers_of(file)
    for target, roles in parts.items():
        for one, other in (
            ("A", "B"),
            ("B", "A"),
            ("embedding_A", "embedding_B"),
            ("embedding_B", "embedding_A"),
        ):
            if one in roles and other not in roles:
                raise BadInput(
                    f"{file}: {roles[one]} is there, its lora_{other} is not; {_SAVE_AGAIN}"
                )
        pair = [headers[roles[role]] for role in PAIR_ROLES if role in roles]
        if pair:
            _check_rank(file, target, pair, config)
        if bool(config.get("use_dora")) != ("magnitude" in roles) and pair:
            has = "has" if "magnitude" in roles else "lacks"
            raise BadInput(
                f"{file}: {target} {has} a lora_magnitude_vector "
                f"and use_dora is {config.get('use_dora')}; {_SAVE_AGAIN}"
            )


def _check_rank(
    file: Path, target: str, pair: list[StoredTensor], config: Mapping[str, Any]
) -> None:
    if any(len(tensor.shape) != 2 for tensor in pair):
        raise BadInput(
            f"{file}: the LoRA pair of {target} is no pair of matrices; "
            "only linear layers and embeddings are merged"
        )
    ranks = pair[0].shape[0], pair[1].shape[1]
    rank = of_module(config.get("rank_pattern"), target.rpartition(".")[0], config.get("r"))
    if ranks[0] != ranks[1] or ranks[0] != rank:
        raise BadInput(
            f"{file}: {target} has an A of rank {ranks[0]} and a B of rank {ranks[1]}, "
            f"adapter_config.json says {rank}; {_SAVE_AGAIN}"
        )
