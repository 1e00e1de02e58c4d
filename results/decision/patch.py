"""A change of an experiment, in the keys of its YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

from foundation.yaml_values import YamlValue


@dataclass(frozen=True)
class Patch:
    """A variant to add, keys of other sections to set, or both.

    `variant`: the keys of the variant. `sections`: by section, its keys.
    """

    variant: Mapping[str, YamlValue] | None = None
    sections: Mapping[str, Mapping[str, YamlValue]] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The lines to paste into the experiment."""
        lines = ["variants:", f"  - {_flow(self.variant)}"] if self.variant else []
        for section, keys in self.sections.items():
            lines.append(f"{section}:")
            for key, value in keys.items():
                lines += _block(key, value)
        return "\n".join(lines)


def _block(key: str, value: YamlValue) -> list[str]:
    """The lines of a section's key; a template stands as a block, which needs no quotes."""
    if isinstance(value, str) and "{" in value:
        return [f"  {key}: |-", *(f"    {line}" for line in value.splitlines())]
    if isinstance(value, list):
        return [f"  {key}:", *(f"    - {_flow(each)}" for each in value)]
    return [f"  {key}: {_flow(value)}"]


def _flow(value: YamlValue) -> str:
    """The value on one line."""
    text: str = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, width=float("inf"), allow_unicode=True
    )
    return text.removesuffix("...\n").rstrip("\n")
