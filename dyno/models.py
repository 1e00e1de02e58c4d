"""From the name in an experiment to a checkpoint on this disk."""

from __future__ import annotations

import re
from pathlib import Path

from dyno.assets import bundled_model
from dyno.experiment import PREFIX
from foundation.errors import BadInput
from foundation.model import ModelRef
from foundation.progress import Progress

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")
_FILES = ("*.safetensors", "*.json", "*.jinja", "tokenizer*", "*.model")


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
        raise BadInput(f"model: {name!r} is no folder, no bundled: name and no hub id such as org/name")
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
        and not any("CausalLM" in str(a) or "ConditionalGeneration" in str(a) for a in architectures)
    ):
        raise BadInput(f"model: {folder}: {architectures[0]} is not a causal language model")
    return model


def _from_hub(name: str, progress: Progress) -> ModelRef:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    hub_id, _, revision = name.partition("@")
    progress.log(f"looking up {name} in the hub's cache, then on the hub")
    try:
        path = Path(snapshot_download(hub_id, revision=revision or None, allow_patterns=list(_FILES)))
    except RepositoryNotFoundError:
        raise BadInput(f"model: {name}: the hub has no such model, or it needs a token (set HF_TOKEN)") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise BadInput(f"model: {name}: not in the local hub cache, and the hub could not be reached ({reason})") from None
    found = _folder(str(path), path)
    return ModelRef(hub_id, path.name if path.parent.name == "snapshots" else revision or None, found.path)
