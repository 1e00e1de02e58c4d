"""Starts Python children that import installed code, never files of the user's current folder.

People name files `results.py`, `socket.py` or `finetune.py`. Python looks into the current folder
first for `-m`, `-c` and processes that multiprocessing spawns.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SAFE = "PYTHONSAFEPATH"
_ROOT = Path(__file__).resolve().parents[2]


def run_module(module: str, *arguments: str) -> list[str]:
    """The command that runs a module in its own process."""
    return [sys.executable, "-P", "-m", module, *arguments]


@contextmanager
def spawned_safely() -> Iterator[None]:
    """Keeps multiprocessing's children, which take no flags, from importing from the folder too."""
    before = os.environ.get(SAFE)
    os.environ[SAFE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SAFE]


def import_nothing_from_here() -> None:
    """Take the current folder out of the imports of this process and of its children.

    Our own source tree stays if dyno runs from it.
    """
    os.environ[SAFE] = "1"
    sys.path[:] = [entry for entry in sys.path if not _is_here(entry)]
    if named := os.environ.get("PYTHONPATH"):
        os.environ["PYTHONPATH"] = os.pathsep.join(
            str(Path(entry).absolute()) for entry in named.split(os.pathsep) if not _is_here(entry)
        )


def _is_here(entry: str) -> bool:
    try:
        here = Path.cwd().resolve()
        return Path(entry).resolve() == here != _ROOT
    except OSError:  # the current folder is gone: nothing can be imported from it
        return entry in ("", ".")
