"""What is to be served under a variant's name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foundation.http.endpoint import Endpoint
from foundation.models.model import ModelRef


@dataclass(frozen=True)
class ServedVariant:
    """A checkpoint, a checkpoint with an adapter beside it, or (with `elsewhere`) an API that is already running.

    Neither folder needs to be there when it is checked. `rank` is that of an adapter still to be trained; `four_bits`: the
    checkpoint, which may still have to be made, has weights of four bits. `template`: the text of the chat template that its
    adapter was trained with, where it is not the checkpoint's. `api`: how it will be asked.
    """

    name: str
    model: ModelRef | None
    adapter: Path | None = None
    elsewhere: Endpoint | None = None
    rank: int | None = None
    four_bits: bool = False
    template: str | None = None
    api: Literal["chat", "completions"] = "completions"
