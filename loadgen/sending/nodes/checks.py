"""What nodes must have before they send anything, and the load that they can carry."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from foundation.errors import BadInput
from foundation.format import rate_text
from foundation.http.connections import LOOPBACK
from foundation.http.endpoint import Endpoint
from foundation.run.ceiling import CEILING_SHARE, Ceiling, slowest
from loadgen.sending.nodes.node import NodeFacts

_NOT_CALIBRATED = "not calibrated; dyno calibrate, run there, measures what it can send"


def check_versions(nodes: Sequence[NodeFacts], here: NodeFacts) -> None:
    """Raises BadInput for a node with another tunedyno or Python than this machine has."""
    for node in nodes:
        for what, theirs, ours in (
            ("tunedyno", node.dyno, here.dyno),
            ("Python", node.python, here.python),
        ):
            if theirs != ours:
                raise BadInput(
                    f"workload.machines: node {node.name} has {what} {theirs or '(none)'}, and "
                    f"this machine has {ours}; install the same one on both"
                )


def check_reachable(endpoint: Endpoint, nodes: Sequence[NodeFacts], network: str) -> None:
    """Raises BadInput for a server that only this machine can reach, where others send.

    `network`: this machine's, as in a node's facts.
    """
    far = next((node for node in nodes if node.network != network), None)
    if far is None:
        return
    for replica in endpoint.replicas:
        if replica.unix_socket or urlsplit(replica.base_url).hostname in LOOPBACK:
            raise BadInput(
                f"{endpoint.variant}: {replica.base_url} can be reached on this machine alone, and "
                f"node {far.name} is another one; serve it on an address that it reaches"
            )


def slowest_ceiling(nodes: Sequence[NodeFacts]) -> Ceiling | None:
    """The load that one process holds on any of the nodes; None where one is not calibrated."""
    return slowest([node.ceiling for node in nodes])


def check_nodes_rate(rate: float, where: str, nodes: Sequence[NodeFacts]) -> None:
    """Raises BadInput for more requests/s than the nodes are calibrated to send.

    They send equal shares, so the slowest decides. `where`: the field that asks for them.
    """
    ceiling = slowest_ceiling(nodes)
    if ceiling is None:
        return
    cores = len(nodes) * min(node.cores for node in nodes)
    most = CEILING_SHARE * ceiling.requests_per_s * cores
    if rate > most:
        raise BadInput(
            f"{where}: {rate_text(rate)} requests/s is beyond the load generator: by dyno "
            f"calibrate, these {len(nodes)} machines send up to {rate_text(most)} requests/s; "
            "write less, or load from more machines"
        )


def calibration_notes(nodes: Sequence[NodeFacts]) -> list[str]:
    """A line for each node without a calibration that counts."""
    return [
        f"node {node.name}: {note}"
        for node in nodes
        if node.ceiling is None
        for note in (node.notes or [_NOT_CALIBRATED])
    ]
