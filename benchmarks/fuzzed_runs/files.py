"""JSON files of a run, and how near two computations of one number are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Json = dict[str, Any]
NEAR = 1e-6
"""Floats that were added up in another order differ by less."""


def read_json(file: Path) -> Json:
    """A JSON file. Raises ValueError for NaN or Infinity, which are no JSON."""

    def refuse(constant: str) -> float:
        raise ValueError(f"{file.name} holds {constant}")

    content: Json = json.loads(file.read_text(), parse_constant=refuse)
    return content
