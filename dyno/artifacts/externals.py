"""The externals of an experiment: what it depends on and does not make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Files = Mapping[str, str]
"""SHA-256 of each file of a folder, by its name."""


@dataclass(frozen=True)
class Externals:
    """Hashes, versions and hardware that an experiment depends on. All hashes are SHA-256.

    `models` and `adapters`: by their names in the experiment. `data`: "train", "eval", "dataset".
    `files`: by path, recordings to replay and files that vLLM's options name. `addresses`: by
    variant, those of APIs elsewhere. `tokenizer`: the one that counts tokens if a server does not.
    `versions`: by package. `machine`: the hardware that times depend on.
    """

    models: Mapping[str, Files] = field(default_factory=dict)
    adapters: Mapping[str, Files] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    tokenizer: Files = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, object] = field(default_factory=dict)
