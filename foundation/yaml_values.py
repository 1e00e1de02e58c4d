"""The values of a YAML or JSON file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

YamlValue: TypeAlias = (
    "str | int | float | bool | Sequence[YamlValue] | Mapping[str, YamlValue] | None"
)
