"""An artifact, whose identity is a hash of all that it depends on.

An artifact is a checkpoint, an adapter, the prompts, the journals of a stage, or an external input
of these. Its identity hashes its own facts (settings, contents, versions) and the identities of
its inputs. Two artifacts with one identity are one thing. A changed fact changes the identities of
the artifacts that depend on it, and no others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from foundation.files.content_hash import identity_of

_HASH_DIGITS = 64
_SHARED_FACTS = ("workload.", "serve.", "finetune.", "machine.", "version of ")
"""Prefixes of facts that all artifacts share, so that one line names a change for all of them."""


@dataclass(frozen=True)
class Artifact:
    """Something that a run makes, measures or depends on.

    `name`: for people, no part of the identity. `facts`: of JSON's types. `inputs`: by the part
    each plays.
    """

    name: str
    facts: Mapping[str, Any]
    inputs: Mapping[str, Artifact] = field(default_factory=dict)

    @cached_property
    def identity(self) -> str:
        """SHA-256 (hex) of the facts and of the inputs' identities."""
        return identity_of(
            {
                "facts": self.facts,
                "inputs": {part: each.identity for part, each in self.inputs.items()},
            }
        )

    def with_inputs(self) -> Iterator[Artifact]:
        """All direct and indirect inputs, then the artifact; a shared input comes several times."""
        for each in self.inputs.values():
            yield from each.with_inputs()
        yield self

    def recorded(self) -> dict[str, Any]:
        """What a file keeps of it: the identity, the facts, and the inputs by name."""
        inputs = {
            part: {"name": each.name, "identity": each.identity}
            for part, each in self.inputs.items()
        }
        return {"identity": self.identity, "facts": dict(self.facts), "inputs": inputs}


def changed_facts(before: Mapping[str, Any], after: Mapping[str, Artifact]) -> list[str]:
    """The facts that differ, one line each.

    `before`: earlier values of `Artifact.recorded`, by the same names as `after`. Only artifacts'
    own facts count, so a changed input is named once.
    """
    lines: dict[str, None] = {}
    for name, artifact in after.items():
        old = before.get(name)
        if not isinstance(old, dict) or old.get("identity") == artifact.identity:
            continue
        if isinstance(facts := old.get("facts"), dict):
            lines |= dict.fromkeys(_differences(name, facts, artifact.facts))
    return list(lines)


def _differences(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    old, new = dict(_flat(before)), dict(_flat(after))
    for key in dict.fromkeys([*old, *new]):
        if old.get(key) == new.get(key) and (key in old) == (key in new):
            continue
        where = key if key.startswith(_SHARED_FACTS) else f"{name}: {key}"
        if key not in new:
            yield f"{where}: was {_text(old[key])}, is gone"
        elif key not in old:
            yield f"{where}: is {_text(new[key])}, was not there"
        elif _is_hash(old[key]) and _is_hash(new[key]):
            yield f"{where} changed"
        else:
            yield f"{where}: was {_text(old[key])}, is {_text(new[key])}"


def _flat(facts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested facts by dotted keys; a list of mappings has its indices as keys."""
    for key, value in facts.items():
        if isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value):
            value = {str(place): each for place, each in enumerate(value)}
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", list(value) if isinstance(value, tuple) else value


def _is_hash(value: object) -> bool:
    if not isinstance(value, str) or len(value) != _HASH_DIGITS:
        return False
    return all(digit in "0123456789abcdef" for digit in value)


def _text(value: object) -> str:
    text = "here" if _is_hash(value) else "none" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
