"""What is to be served under a variant's name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foundation.http.endpoint import Endpoint
from foundation.models.model import ModelRef


@dataclass(frozen=True)
class PlannedWeights:
    """Weights of a checkpoint that is still to be made, as far as its source is on this machine.

    `full_precision` counts the weights that nothing rounds. `rounded_bytes` bounds the size of the others from above.
    """

    full_precision: int
    rounded_bytes: int = 0


@dataclass(frozen=True)
class ServedVariant:
    """A checkpoint, a checkpoint with an adapter beside it, or (with `elsewhere`) an API that is already running.

    Neither folder needs to be there when it is checked. `rank` is that of an adapter still to be trained; `bits`: those of a
    weight, where the experiment quantizes the checkpoint; `planned`: what it will hold, while its folder is not there.
    `template`: the text of the chat template that its adapter was trained with, where it is not the checkpoint's. `api`: how it
    will be asked.
    """

    name: str
    model: ModelRef | None
    adapter: Path | None = None
    elsewhere: Endpoint | None = None
    rank: int | None = None
    bits: Literal[4, 8] | None = None
    planned: PlannedWeights | None = None
    template: str | None = None
    api: Literal["chat", "completions"] = "completions"
