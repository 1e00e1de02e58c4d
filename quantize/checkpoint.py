"""The folder a checkpoint is written to: room for it, the files copied from its source, and its recipe."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from foundation.errors import BadInput
from foundation.files.atomic_write import write_whole
from foundation.models.model import ModelRef


def make_room(out: Path, needed: int) -> None:
    """Create the folder. Raises BadInput where its disk has fewer than `needed` bytes free."""
    standing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(standing).free
    if free < needed:
        raise BadInput(
            f"{out}: {free:,} bytes free on its disk, {needed:,} needed for the checkpoint; free some, or write elsewhere"
        )
    out.mkdir(parents=True, exist_ok=True)


def write_recipe(out: Path, source: ModelRef, packages: Iterable[str], **recipe: Any) -> None:
    """`recipe.json`: from what, how, with which versions, and bytes of weights before and after."""
    before, after = source.size_bytes(), ModelRef(source.id, None, out).size_bytes()
    text = {
        "schema_version": 1,
        "from": {"id": source.id, "revision": source.revision, "fingerprint": source.fingerprint()},
        **recipe,
        "bytes_before": before,
        "bytes_after": after,
        "versions": {
            name: version(name) for name in ("tunedyno", "torch", "transformers", *packages)
        },
    }
    write_whole(out / "recipe.json", json.dumps(text, indent=2) + "\n")
