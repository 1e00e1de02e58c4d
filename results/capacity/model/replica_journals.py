"""The requests of one replica among those of a block: an engine knows of no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from msgspec.structs import replace as with_fields

from foundation.run.engine_steps import ServerRecord
from foundation.run.journal import Journal
from foundation.run.requests import Requests


def replica_journals(journal: Journal) -> list[Journal] | str:
    """A journal of each replica, with its share of the load; a str says why there is none."""
    header, count = journal.header, journal.header.replicas
    if count == 1:
        return [journal]
    if header.router != "round robin":
        return f"{header.router} chose the replica of each request, and no stamp says which"
    share = with_fields(
        header,
        replicas=1,
        router=None,
        offered_rate=None if header.offered_rate is None else header.offered_rate / count,
        concurrency=None if header.concurrency is None else max(1, header.concurrency // count),
    )
    return [
        replace(journal, header=share, requests=of_replica(journal.requests, number))
        for number in range(1, count + 1)
    ]


def of_replica(requests: Requests, number: int) -> Requests:
    """The requests that went to a replica, from 1."""
    return requests.where(requests.replica == number)


def requests_by_server(journal: Journal, servers: Sequence[ServerRecord]) -> list[Requests]:
    """The requests of each server that answered, by its engine record where a router chose."""
    parts = replica_journals(journal)
    if not isinstance(parts, str):
        return [part.requests for part in parts]
    origin, ids = journal.header.origin_monotonic_ns, journal.requests.id
    own = (record.requests.number[record.requests.origin == origin] for record in servers)
    return [journal.requests.where(np.isin(ids, numbers)) for numbers in own if len(numbers)]
