"""Reads a JSON object from a file that another program wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from foundation.errors import BadInput


def read_object(file: Path) -> dict[str, Any]:
    """The file's object. Raises FileNotFoundError, and BadInput for anything but a JSON object."""
    try:
        parsed = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{file}: not JSON ({error})") from None
    if not isinstance(parsed, dict):
        raise BadInput(f"{file}: not a JSON object")
    return parsed


def object_if_there(file: Path) -> dict[str, Any]:
    """The file's object; an empty one if the file is missing."""
    return read_object(file) if file.is_file() else {}
