"""What a server serves under a variant's name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foundation.http.endpoint import Api, Endpoint
from foundation.models.model import ModelRef
from serve.config import VariantServe


@dataclass(frozen=True)
class PlannedWeights:
    """Weights of a checkpoint that does not exist yet, if its source is on this machine.

    `full_precision`: the number of weights that nothing rounds.
    `rounded_bytes`: an upper bound for the size of the others.
    """

    full_precision: int
    rounded_bytes: int = 0


@dataclass(frozen=True)
class ServedVariant:
    """A checkpoint, a checkpoint with an adapter, or (`elsewhere`) an API that already runs.

    Checks also work before the checkpoint's or the adapter's folder exists.
    `rank`: the rank of an adapter that is not trained yet.
    `bits`: the bits of a weight if the experiment quantizes the checkpoint.
    `planned`: what the checkpoint will hold, while its folder does not exist.
    `template`: the text of the chat template that the adapter was trained with; None if it is
    the checkpoint's own.
    `api`: the API that the load will use.
    `settings`: what its server has otherwise than the section `serve`.
    """

    name: str
    model: ModelRef | None
    adapter: Path | None = None
    elsewhere: Endpoint | None = None
    rank: int | None = None
    bits: Literal[4, 8] | None = None
    planned: PlannedWeights | None = None
    template: str | None = None
    api: Api = "completions"
    settings: VariantServe | None = None
