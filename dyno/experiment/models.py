"""From the name in an experiment to a checkpoint on this disk."""

from __future__ import annotations

import re
from pathlib import Path

from dyno.experiment.bundled import bundled_model
from dyno.experiment.schema import PREFIX
from dyno.terminal.signals import ending_now
from foundation.errors import BadInput
from foundation.models.checkpoint import check_checkpoint
from foundation.models.model import ModelRef, is_causal
from foundation.progress import Progress

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")
_WORDS = ("*.json", "*.jinja", "tokenizer*", "*.model")
_FILES = ("*.safetensors", *_WORDS)
_TWICE = "consolidated*"
"""The same weights a second time, under the names that Mistral's own library gives them."""


def resolve_model(name: str, where: Path, progress: Progress) -> ModelRef:
    """`bundled:NAME`, a folder (relative to `where`), or a hub id (`org/name`, `org/name@revision`), fetched if it is not there.

    Raises BadInput where there is no such model, or its folder holds no safetensors.
    """
    if name.startswith(PREFIX):
        return bundled_model(name.removeprefix(PREFIX), progress)
    folder = (where / Path(name).expanduser()).resolve()
    if folder.is_dir():
        return _folder(name, folder)
    if not _HUB_ID.fullmatch(name):
        raise BadInput(
            f"model: {name!r} is no folder, no bundled: name and no hub id such as org/name"
        )
    return _from_hub(name, progress)


def name_only(name: str) -> ModelRef:
    """A model that is not on this machine, for `--dry-run`: its path does not exist."""
    hub_id, _, revision = name.partition("@")
    return ModelRef(hub_id, revision or None, Path("/nonexistent") / hub_id)


def _folder(name: str, folder: Path) -> ModelRef:
    model = ModelRef(Path(name).name, None, folder)
    architectures = model.config().get("architectures")
    if not any(folder.glob("*.safetensors")):
        pickles = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        why = (
            "only pickle weights, which can run code when loaded; convert them to safetensors"
            if pickles
            else "no *.safetensors weights"
        )
        raise BadInput(f"model: {folder}: {why}")
    if (
        isinstance(architectures, list)
        and architectures
        and not any(_answers(str(a)) for a in architectures)
    ):
        raise BadInput(f"model: {folder}: {architectures[0]} is not a causal language model")
    check_checkpoint(model)
    return model


def _answers(architecture: str) -> bool:
    return "ConditionalGeneration" in architecture or is_causal(architecture)


def tokenizer_folder(name: str, where: Path, progress: Progress) -> Path:
    """The folder of a model's tokenizer, weights or none beside it: as `resolve_model` finds models. Raises BadInput."""
    if name.startswith(PREFIX):
        return bundled_model(name.removeprefix(PREFIX), progress).path
    if found := tokenizer_at_hand(name, where):
        return found
    if (where / Path(name).expanduser()).is_dir() or not _HUB_ID.fullmatch(name):
        raise BadInput(
            f"workload.tokenizer: {name!r} is no folder with a tokenizer.json, no bundled: name and no hub id"
        )
    return _snapshot(name, _WORDS, progress)


def tokenizer_at_hand(name: str, where: Path) -> Path | None:
    """The same without asking anybody: a folder, or the hub's cache; None where neither has it."""
    folder = (where / Path(name).expanduser()).resolve()
    return folder if (folder / "tokenizer.json").is_file() else _cached(name, "tokenizer.json")


def resolve_adapter(name: str, where: Path, progress: Progress) -> Path:
    """The folder of an adapter: a path (relative to `where`, `~` expanded) or a hub id, fetched if it is not there.

    Raises BadInput where there is none.
    """
    folder = adapter_folder(name, where)
    if folder.is_dir():
        return folder
    if not _HUB_ID.fullmatch(name):
        raise BadInput(
            f"{folder}: no such adapter folder, and {name!r} is no hub id such as org/name"
        )
    return _snapshot(name, _FILES, progress, "adapter")


def adapter_folder(name: str, where: Path) -> Path:
    """The same without asking anybody: the folder, where it is there, else that of the hub's cache, else the folder to be."""
    folder = (where / Path(name).expanduser()).resolve()
    return folder if folder.is_dir() else _cached(name, "adapter_config.json") or folder


def _cached(name: str, file: str) -> Path | None:
    """The folder of a hub id in the hub's cache, where it holds this file."""
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
    path = _snapshot(name, _FILES, progress)
    found = _folder(str(path), path)
    return ModelRef(
        hub_id, path.name if path.parent.name == "snapshots" else revision or None, found.path
    )


def _snapshot(name: str, files: tuple[str, ...], progress: Progress, what: str = "model") -> Path:
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
                    ignore_patterns=[_TWICE],
                )
            )
    except RepositoryNotFoundError:
        raise BadInput(
            f"{what}: {name}: the hub has no such {what}, or it needs a token (set HF_TOKEN)"
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise BadInput(
            f"{what}: {name}: not in the local hub cache, and the hub could not be reached ({reason})"
        ) from None
