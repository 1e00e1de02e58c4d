"""The files beside the journals: a damaged one is named, and costs no more than what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from foundation.run.journal import UNREADABLE, Damage

T = TypeVar("T")


def read_json(run: Path, name: str, kind: type[T]) -> T | Damage | None:
    """What a file of a run holds, a path below it; None where the run has none."""
    file = run / name
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, *UNREADABLE) as error:
        return Damage(Path(name), 0, f"can't be read ({error})")
