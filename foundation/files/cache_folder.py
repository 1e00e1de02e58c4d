"""The folder for what is downloaded or computed once."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$TUNEDYNO_CACHE`, or tunedyno's folder in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TUNEDYNO_CACHE") or Path(base) / "tunedyno")
