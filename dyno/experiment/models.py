"""Finds the models, adapters and tokenizers that an experiment names, and fetches missing ones."""

from __future__ import annotations

import re
from pathlib import Path

from dyno.experiment.bundled import PREFIX, bundled_model
from dyno.terminal.signals import ending_now
from foundation.errors import BadInput
from foundation.models.checkpoint import check_checkpoint
from foundation.models.model import ModelRef, is_causal
from foundation.progress import Progress

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")
_TOKENIZER_FILES = ("*.json", "*.jinja", "tokenizer*", "*.model")
_MODEL_FILES = ("*.safetensors", *_TOKENIZER_FILES)
_DUPLICATE_WEIGHTS = "consolidated*"
"""The same weights a second time, under the names that Mistral's own library uses."""


def resolve_model(name: str, where: Path, progress: Progress) -> ModelRef:
    """The model of a name: `bundled:NAME`, a folder relative to `where`, or a hub id.

    A hub id is `org/name` or `org/name@revision`; it is fetched if it is not on this machine.
    Raises BadInput for a model that does not exist, or a folder without safetensors.
    """
    if name.startswith(PREFIX):
        return bundled_model(name.removeprefix(PREFIX), progress)
    folder = (where / Path(name).expanduser()).resolve()
    if folder.is_dir():
        return _model_in(folder, name)
    if not _HUB_ID.fullmatch(name):
        raise BadInput(
            f"model: {name!r} is no folder, no bundled: name and no hub id such as org/name"
        )
    return _from_hub(name, progress)


def name_only(name: str) -> ModelRef:
    """A stand-in for a model that is not on this machine, for `--dry-run`; its path is missing."""
    hub_id, _, revision = name.partition("@")
    return ModelRef(hub_id, revision or None, Path("/nonexistent") / hub_id)


def _model_in(folder: Path, name: str) -> ModelRef:
    """The model in a folder. Raises BadInput for one that can't be served."""
    model = ModelRef(Path(name).name, None, folder)
    architectures = model.config().get("architectures")
    if not any(folder.glob("*.safetensors")):
        pickles = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        problem = "no *.safetensors weights"
        if pickles:
            problem = (
                "only pickle weights, which can run code when loaded; convert them to safetensors"
            )
        raise BadInput(f"model: {folder}: {problem}")
    named = [str(name) for name in architectures] if isinstance(architectures, list) else []
    if named and not any(map(_generates_text, named)):
        raise BadInput(f"model: {folder}: {named[0]} is not a causal language model")
    check_checkpoint(model)
    return model


def _generates_text(architecture: str) -> bool:
    return "ConditionalGeneration" in architecture or is_causal(architecture)


def tokenizer_folder(name: str, where: Path, progress: Progress) -> Path:
    """The folder of a tokenizer, found as `resolve_model` finds models; it needs no weights.

    Raises BadInput.
    """
    if name.startswith(PREFIX):
        return bundled_model(name.removeprefix(PREFIX), progress).path
    if folder := tokenizer_at_hand(name, where):
        return folder
    if (where / Path(name).expanduser()).is_dir() or not _HUB_ID.fullmatch(name):
        raise BadInput(
            f"workload.tokenizer: {name!r} is no folder with a tokenizer.json, "
            "no bundled: name and no hub id"
        )
    return _snapshot(name, _TOKENIZER_FILES, progress)


def tokenizer_at_hand(name: str, where: Path) -> Path | None:
    """The folder of a tokenizer on this machine: a folder, or the hub's cache; else None."""
    folder = (where / Path(name).expanduser()).resolve()
    return folder if (folder / "tokenizer.json").is_file() else _cached(name, "tokenizer.json")


def resolve_adapter(name: str, where: Path, progress: Progress) -> Path:
    """The folder of an adapter: a path relative to `where`, or a hub id, which is fetched.

    Raises BadInput for an adapter that does not exist.
    """
    folder = adapter_folder(name, where)
    if folder.is_dir():
        return folder
    if not _HUB_ID.fullmatch(name):
        raise BadInput(
            f"{folder}: no such adapter folder, and {name!r} is no hub id such as org/name"
        )
    return _snapshot(name, _MODEL_FILES, progress, "adapter")


def adapter_folder(name: str, where: Path) -> Path:
    """The folder of an adapter, without a download.

    A folder that exists comes first, then the hub's cache. Else the path of a missing folder.
    """
    folder = (where / Path(name).expanduser()).resolve()
    return folder if folder.is_dir() else _cached(name, "adapter_config.json") or folder


def _cached(name: str, file: str) -> Path | None:
    """The folder of a hub id in the hub's cache; None unless it holds `file`."""
    hub_id, _, revision = name.partition("@")
    if not _HUB_ID.fullmatch(name):
        return None
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    cached = try_to_load_from_cache(hub_id, file, revision=revision or None)
    return Path(cached).parent if isinstance(cached, str) else None


def _from_hub(name: str, progress: Progress) -> ModelRef:
    hub_id, _, revision = name.partition("@")
    folder = _snapshot(name, _MODEL_FILES, progress)
    model = _model_in(folder, str(folder))
    commit = folder.name if folder.parent.name == "snapshots" else revision or None
    return ModelRef(hub_id, commit, model.path)


def _snapshot(name: str, files: tuple[str, ...], progress: Progress, what: str = "model") -> Path:
    """The folder of a hub id in the hub's cache, after missing files were fetched."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    hub_id, _, revision = name.partition("@")
    progress.log(f"looking up {name} in the hub's cache, then on the hub")
    try:
        with ending_now():
            return Path(
                snapshot_download(
                    hub_id,
                    revision=revision or None,
                    allow_patterns=list(files),
                    ignore_patterns=[_DUPLICATE_WEIGHTS],
                )
            )
    except RepositoryNotFoundError:
        raise BadInput(
            f"{what}: {name}: the hub has no such {what}, or it needs a token (set HF_TOKEN)"
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise BadInput(
            f"{what}: {name}: not in the local hub cache, "
            f"and the hub could not be reached ({reason})"
        ) from None
