"""How much room a folder's disk has."""

from __future__ import annotations

import shutil
from pathlib import Path


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder, which need not exist yet."""
    parents = (folder, *folder.absolute().parents)
    existing = next(parent for parent in parents if parent.exists())
    return shutil.disk_usage(existing).free
