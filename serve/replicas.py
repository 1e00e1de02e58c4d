"""Replicas of a server as one endpoint for each variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from foundation.http.endpoint import Endpoint
from serve.server import VllmServer


def replica_groups(servers: Sequence[VllmServer]) -> list[list[VllmServer]]:
    """The servers, each with the others that serve the same variants."""
    groups: dict[tuple[str, ...], list[VllmServer]] = {}
    for server in servers:
        groups.setdefault(tuple(v.name for v in server.plan.variants), []).append(server)
    return list(groups.values())


def endpoints_of(group: Sequence[VllmServer]) -> list[Endpoint]:
    """An endpoint for each variant of replicas: the first one's, with the `others`."""
    return [
        replace(first, others=tuple(rest))
        for first, *rest in zip(*(server.endpoints for server in group), strict=True)
    ]
