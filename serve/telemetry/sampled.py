"""What the parent and the sampling child say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from foundation.http.endpoint import Endpoint

PERIOD_S = 0.25
"""Time between two samples."""


@dataclass(frozen=True)
class SampledServer:
    """A server: the endpoints of its variants, and the root of its process tree.

    `pid` is None where somebody else runs the server. Such a server without metrics gets no
    samples. `replica`: its number among those that serve the same variants, from 1; 0 for the only
    one.
    """

    endpoints: tuple[Endpoint, ...]
    pid: int | None
    replica: int = 0

    @property
    def variants(self) -> tuple[str, ...]:
        """The names of its variants."""
        return tuple(endpoint.variant for endpoint in self.endpoints)


@dataclass(frozen=True)
class SamplingPlan:
    """What the child reads from its standard input: the servers, and the folder of their files."""

    servers: tuple[SampledServer, ...]
    folder: Path


class Report(msgspec.Struct, frozen=True):
    """A line from the child: it is ready or took a sample, or why something is missing at last."""

    troubles: list[str] = []
