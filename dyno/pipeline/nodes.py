"""The machines that send a run's load, where `workload.machines` names others than this one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from dyno.pipeline.begin import write_ceiling
from dyno.pipeline.environment import SendingNode, note_nodes
from foundation.progress import Progress
from foundation.run.layout import RunDirectory
from loadgen.config import WorkloadConfig
from loadgen.event_loop import run as run_loop
from loadgen.sending.nodes.checks import calibration_notes, check_nodes_rate, slowest_ceiling
from loadgen.sending.nodes.node import Node
from loadgen.sending.nodes.ray_nodes import ray_nodes


@asynccontextmanager
async def open_nodes(workload: WorkloadConfig) -> AsyncIterator[Sequence[Node]]:
    """The nodes that send a workload, until the end of the block; none where this machine does.

    Raises BadInput where they can't be reached, have another tunedyno or Python, or are too slow.
    """
    if workload.machines is None:
        yield ()
        return
    async with ray_nodes(workload.machines) as nodes:
        if workload.search is not None:
            check_nodes_rate(workload.search.max_rate, "max_rate", [node.facts for node in nodes])
        yield nodes


def check_nodes(workload: WorkloadConfig, progress: Progress) -> None:
    """Raises as `open_nodes`, before anything starts. Logs who sends, and who is not calibrated."""
    if workload.machines is None:
        return

    async def look() -> None:
        async with open_nodes(workload) as nodes:
            facts = [node.facts for node in nodes]
        names = ", ".join(f"{each.name} ({each.cores} cores)" for each in facts)
        for line in (f"the load comes from {names}", *calibration_notes(facts)):
            progress.log(line)

    run_loop(look())


def record_nodes(nodes: Sequence[Node], out: RunDirectory) -> None:
    """Writes who sends into the run's environment, and how much the slowest can carry."""
    if not nodes:
        return
    note_nodes(out.environment, map(_noted, nodes))
    if not out.calibration.exists():
        write_ceiling(out, slowest_ceiling([node.facts for node in nodes]))


def _noted(node: Node) -> SendingNode:
    facts = node.facts
    return {"id": node.id, "host": facts.name, "cores": facts.cores, "cpu": facts.processor}
