"""What an experiment makes and measures, as a graph: each artifact has an identity made of all that it depends on.

An artifact is a checkpoint, an adapter, the prompts, the journals of a stage, or something from outside that these rest on. Its
identity is a hash of its own facts (settings, contents, versions) and of its inputs' identities. Two artifacts with one identity
are one thing; a changed fact changes the identity of what depends on it, and of nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from foundation.files.content_hash import identity_of

_HASH = 64
_OF_ALL = ("workload.", "serve.", "finetune.", "machine.", "version of ")
"""How facts begin that mean the same for every artifact that has them, so that one line tells of all."""


@dataclass(frozen=True)
class Artifact:
    """`name` is for people and no part of the identity. `facts` are of JSON's types, `inputs` are by the part they play."""

    name: str
    facts: Mapping[str, Any]
    inputs: Mapping[str, Artifact] = field(default_factory=dict)

    @cached_property
    def identity(self) -> str:
        """SHA-256 (hex) of all that this depends on."""
        return identity_of(
            {
                "facts": self.facts,
                "inputs": {part: each.identity for part, each in self.inputs.items()},
            }
        )

    def with_inputs(self) -> Iterator[Artifact]:
        """Everything that it depends on, and it; a common input comes more than once."""
        for each in self.inputs.values():
            yield from each.with_inputs()
        yield self

    def recorded(self) -> dict[str, Any]:
        """What a file says of it: the identity, and in readable form what it is made of."""
        inputs = {
            part: {"name": each.name, "identity": each.identity}
            for part, each in self.inputs.items()
        }
        return {"identity": self.identity, "facts": dict(self.facts), "inputs": inputs}


def changed_facts(before: Mapping[str, Any], after: Mapping[str, Artifact]) -> list[str]:
    """Which facts differ, one line each. `before`: what `Artifact.recorded` said earlier, by the same names as `after`.

    Only facts of artifacts' own: what merely follows from a changed input is not repeated.
    """
    lines: dict[str, None] = {}
    for name, artifact in after.items():
        old = before.get(name)
        facts = old.get("facts") if isinstance(old, dict) else None
        if (
            isinstance(facts, dict)
            and isinstance(old, dict)
            and old.get("identity") != artifact.identity
        ):
            for line in _differences(name, facts, artifact.facts):
                lines.setdefault(line)
    return list(lines)


def _differences(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    old, new = dict(_flat(before)), dict(_flat(after))
    for key in dict.fromkeys([*old, *new]):
        if old.get(key) == new.get(key) and (key in old) == (key in new):
            continue
        where = key if key.startswith(_OF_ALL) else f"{name}: {key}"
        if key not in new:
            yield f"{where}: was {_shown(old[key])}, is gone"
        elif key not in old:
            yield f"{where}: is {_shown(new[key])}, was not there"
        elif _is_hash(old[key]) and _is_hash(new[key]):
            yield f"{where} changed"
        else:
            yield f"{where}: was {_shown(old[key])}, is {_shown(new[key])}"


def _flat(facts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested facts by dotted keys; items of a list of mappings by their places."""
    for key, value in facts.items():
        if isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value):
            value = {str(place): each for place, each in enumerate(value)}
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", list(value) if isinstance(value, tuple) else value


def _is_hash(value: object) -> bool:
    return (
        isinstance(value, str)
        and len(value) == _HASH
        and all(c in "0123456789abcdef" for c in value)
    )


def _shown(value: object) -> str:
    text = "here" if _is_hash(value) else "none" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
