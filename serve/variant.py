"""What is to be served under a variant's name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from foundation.endpoint import Endpoint
from foundation.model import ModelRef


@dataclass(frozen=True)
class ServedVariant:
    """A checkpoint, a checkpoint with an adapter beside it, or (with `url` and `url_model`) an API that is already running.

    Neither folder needs to be there when it is checked. `rank` is that of an adapter still to be trained.
    """

    name: str
    model: ModelRef | None
    adapter: Path | None = None
    url: str | None = None
    url_model: str | None = None
    api_key: str | None = field(default=None, repr=False)
    rank: int | None = None

    def elsewhere(self) -> Endpoint | None:
        """The endpoint of a variant that somebody else serves."""
        if self.url is None:
            return None
        return Endpoint(self.name, self.url.rstrip("/"), self.url_model or self.name, self.api_key)
