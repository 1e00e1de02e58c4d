"""The base that an adapter was trained on: by its weights' fingerprint, else by its name."""

from __future__ import annotations

import re
from pathlib import Path

from foundation.errors import BadInput
from foundation.models.model import ModelRef

_COPIES = re.compile(
    r"(-unsloth)?-(bnb-)?[48]bit$|-(gptq|awq)(-int[48])?$|-(bf16|fp16|safetensors)$"
)
"""What mirrors, and copies that were quantized for training, add to a model's name."""

_FOLDERS = {
    "base", "cache", "checkpoint", "checkpoints", "ckpt", "ckpts", "data", "llm", "llms", "model",
    "models", "out", "output", "outputs", "pretrained", "runs", "tmp", "weights",
}  # fmt: skip
"""First parts of relative paths, which are no accounts of a hub."""


def check_base(adapter: Path, recorded: str, fingerprint: str | None, base: ModelRef) -> str | None:
    """The warning where the adapter records its base by another name, else None.

    `recorded` is `base_model_name_or_path` of its config, `fingerprint` that of its base's weights,
    if known. Raises BadInput where these are other weights, or another model's name and nothing
    shows that the weights are the same.
    """
    fingerprint = fingerprint or _fingerprint_of(recorded)
    if fingerprint is not None and fingerprint != base.fingerprint():
        raise BadInput(
            f"{adapter}: trained on {recorded}, "
            f"whose weights are not those of {base.id} ({base.path})"
        )
    if not recorded or recorded.lower() == base.id.lower() or _same_path(recorded, base.path):
        return None
    if fingerprint is not None:
        return f"{adapter}: records {recorded} as its base, which has the weights of {base.id}"
    if (
        _is_hub_id(recorded)
        and _is_hub_id(base.id)
        and _model_name(recorded) != _model_name(base.id)
    ):
        raise BadInput(
            f"{adapter}: trained on {recorded}, not on {base.id}; name that model, "
            "or an adapter trained on this one (where both have the same weights, "
            f"write {base.id} for base_model_name_or_path in its adapter_config.json)"
        )
    return (
        f"{adapter}: records {recorded} as its base; shapes fit {base.id}, "
        "nothing shows that the weights are the same"
    )


def _fingerprint_of(recorded: str) -> str | None:
    """The fingerprint of a base that is recorded by its path, where that is a model folder here."""
    folder = Path(recorded).expanduser()
    if (
        not recorded
        or not (folder / "config.json").is_file()
        or not any(folder.glob("*.safetensors"))
    ):
        return None
    return ModelRef(recorded, None, folder).fingerprint()


def _same_path(recorded: str, folder: Path) -> bool:
    return Path(recorded).expanduser().resolve() == folder.resolve()


def _is_hub_id(name: str) -> bool:
    account, _, model = name.partition("/")
    path = (
        name.startswith(("/", ".", "~"))
        or "/" in model
        or "\\" in name
        or account.lower() in _FOLDERS
    )
    return bool(model) and not path


def _model_name(hub_id: str) -> str:
    """The name without account, revision, and what copies of the model add to it."""
    name, before = hub_id.rpartition("/")[2].partition("@")[0].lower(), None
    while name != before:
        before, name = name, _COPIES.sub("", name)
    return name
