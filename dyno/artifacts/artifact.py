"""An artifact, whose identity is a hash of all that it depends on.

An artifact is a checkpoint, an adapter, the prompts, the journals of a stage, or an external input
of these. Its identity hashes its own facts (settings, contents, versions) and the identities of
its inputs. Two artifacts with one identity are one thing. A changed fact changes the identities of
the artifacts that depend on it, and no others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from foundation.files.content_hash import identity_of

_HASH_DIGITS = 64
_SHARED_FACTS = ("workload.", "machine.", "version of ")
"""Prefixes of facts that all artifacts share, so that one line names a change for all of them."""
_OFTEN_SHARED_FACTS = ("serve.", "finetune.")
"""Prefixes of facts that a variant may have of its own. One line names a change for all artifacts
only if it is the same in each that has the fact; every server has each fact of `serve.`."""


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
    differences: list[tuple[str, str, str]] = []
    holders: Counter[str] = Counter()
    for name, artifact in after.items():
        old = before.get(name)
        if not isinstance(old, dict) or not isinstance(facts := old.get("facts"), dict):
            continue
        holders.update({_held(key) for key, _ in _flat(artifact.facts)})
        if old.get("identity") != artifact.identity:
            differences += [(name, *each) for each in _differences(facts, artifact.facts)]
    counts = Counter((key, words) for _, key, words in differences)

    def is_shared(key: str, words: str) -> bool:
        everywhere = counts[key, words] >= holders[_held(key)]
        return key.startswith(_SHARED_FACTS) or (key.startswith(_OFTEN_SHARED_FACTS) and everywhere)

    lines = [
        f"{key}{words}" if is_shared(key, words) else f"{name}: {key}{words}"
        for name, key, words in differences
    ]
    return list(dict.fromkeys(lines))


def _held(key: str) -> str:
    """The fact itself, or the section whose facts an artifact has all or none of."""
    return "serve." if key.startswith("serve.") else key


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each fact that differs by its dotted key, and how, such as ": was 16, is 8"."""
    old, new = dict(_flat(before)), dict(_flat(after))
    for key in dict.fromkeys([*old, *new]):
        if old.get(key) == new.get(key) and (key in old) == (key in new):
            continue
        if key not in new:
            yield key, f": was {_text(old[key])}, is gone"
        elif key not in old:
            yield key, f": is {_text(new[key])}, was not there"
        elif _is_hash(old[key]) and _is_hash(new[key]):
            yield key, " changed"
        else:
            yield key, f": was {_text(old[key])}, is {_text(new[key])}"


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
