"""How much load one process of the load generator can carry, and how much of that it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from foundation.run.records import Count

CEILING_SHARE = 0.7
"""The share of its ceiling that a process is loaded to: stamps and sends begin to suffer above."""

SLIP_LIMIT_MS = 5.0
"""A schedule slip (sent less scheduled time) above this is late for any measurement."""


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """The loads that one process kept up with on a machine: `calibration.json` in short."""

    machine: str
    events_per_s: Annotated[float, msgspec.Meta(ge=0)]
    requests_per_s: Annotated[float, msgspec.Meta(ge=0)]
    streams: Count


def slowest(ceilings: Sequence[Ceiling | None]) -> Ceiling | None:
    """The load that a process holds on each of several machines: the least of every number.

    None where there is no machine, or one without a ceiling.
    """
    known = [ceiling for ceiling in ceilings if ceiling is not None]
    if not known or len(known) < len(ceilings):
        return None
    return Ceiling(
        machine=min(known, key=lambda ceiling: ceiling.events_per_s).machine,
        events_per_s=min(ceiling.events_per_s for ceiling in known),
        requests_per_s=min(ceiling.requests_per_s for ceiling in known),
        streams=min(ceiling.streams for ceiling in known),
    )
