"""`tunedyno.json`: the record that training writes beside its adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foundation.files.json_object import object_if_there

FILE = "tunedyno.json"


def base_fingerprint(adapter: Path) -> str | None:
    """`ModelRef.fingerprint` of the adapter's base; None if there is no record of it."""
    fingerprint = _section(adapter, "base").get("fingerprint")
    return fingerprint if isinstance(fingerprint, str) else None


def prompt_style(adapter: Path) -> tuple[str | None] | None:
    """The prompt style of training, in a tuple; None if there is no record of it.

    None in the tuple stands for training without a style.
    """
    if not (config := _section(adapter, "config")):
        return None
    style = config.get("prompt")
    return (style if isinstance(style, str) else None,)


def _section(adapter: Path, name: str) -> dict[str, Any]:
    section = object_if_there(adapter / FILE).get(name)
    return section if isinstance(section, dict) else {}
