"""The folder of a written checkpoint: its disk space, and its recipe."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

from foundation.errors import BadInput
from foundation.files.atomic_write import write_whole
from foundation.files.disk_space import free_bytes
from foundation.models.model import ModelRef


def make_room(out: Path, needed: int) -> None:
    """Create the folder. Raises BadInput where its disk has fewer than `needed` bytes free."""
    free = free_bytes(out)
    if free < needed:
        raise BadInput(
            f"{out}: {free:,} bytes free on its disk, {needed:,} needed for the checkpoint; "
            "free some, or write elsewhere"
        )
    out.mkdir(parents=True, exist_ok=True)


def write_recipe(
    out: Path, source: ModelRef, packages: Iterable[str], recipe: Mapping[str, object]
) -> None:
    """Write `recipe.json`: source, method, versions, and bytes of weights before and after."""
    text = {
        "schema_version": 1,
        "from": {"id": source.id, "revision": source.revision, "fingerprint": source.fingerprint()},
        **recipe,
        "bytes_before": source.size_bytes(),
        "bytes_after": ModelRef(source.id, None, out).size_bytes(),
        "versions": {
            name: version(name) for name in ("tunedyno", "torch", "transformers", *packages)
        },
    }
    write_whole(out / "recipe.json", json.dumps(text, indent=2) + "\n")
