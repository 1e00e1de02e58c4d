"""`tunedyno.json`: what training wrote down beside the adapter that it made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foundation.files.json_object import object_if_there

FILE = "tunedyno.json"


def base_fingerprint(adapter: Path) -> str | None:
    """`ModelRef.fingerprint` of the base that it was trained on; None where nobody wrote it down."""
    fingerprint = _section(adapter, "base").get("fingerprint")
    return fingerprint if isinstance(fingerprint, str) else None


def prompt_style(adapter: Path) -> tuple[str | None] | None:
    """The prompt style that it was trained in, in a tuple (None in it: the data's own words); None where nobody wrote it down."""
    if not (config := _section(adapter, "config")):
        return None
    style = config.get("prompt")
    return (style if isinstance(style, str) else None,)


def _section(adapter: Path, name: str) -> dict[str, Any]:
    section = object_if_there(adapter / FILE).get(name)
    return section if isinstance(section, dict) else {}
