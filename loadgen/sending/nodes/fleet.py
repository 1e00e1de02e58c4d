"""The workers of a block on its nodes, and the one clock that their parts are put on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from loadgen.schedule.arrivals import WorkerShare
from loadgen.sending.block import BlockPlan
from loadgen.sending.journal_parts import Machines, part_of
from loadgen.sending.nodes.checks import check_reachable, slowest_ceiling
from loadgen.sending.nodes.clock import joint_clock
from loadgen.sending.nodes.facts import network_here
from loadgen.sending.nodes.worker import NodeWorker
from loadgen.sending.workers_needed import workers_for


def node_workers(plan: BlockPlan, journal: Path) -> list[NodeWorker]:
    """A worker on each of the plan's nodes; node K of N sends the share K of N.

    All start as many processes as the slowest needs. A closed loop of fewer requests than nodes
    leaves some out. Raises BadInput where a node can't reach the server.
    """
    most = min(plan.workload.max_in_flight, plan.stage.concurrency or plan.workload.max_in_flight)
    nodes = plan.nodes[:most]
    if not nodes:
        return []
    facts = [node.facts for node in nodes]
    check_reachable(plan.endpoint, facts, network_here())
    processes = workers_for(
        plan.stage,
        plan.workload,
        slowest_ceiling(facts),
        min(each.cores for each in facts),
        WorkerShare(0, len(nodes)),
    )
    own = {"workers": max(1, min(processes, most // len(nodes))), "machines": None}
    own_plan = replace(
        plan,
        nodes=(),
        arrivals=plan.timetable,
        workload=plan.workload.model_copy(update=own),
    )
    return [
        NodeWorker(replace(own_plan, share=share), part_of(journal, number), node)
        for number, (share, node) in enumerate(
            zip(plan.share.divided(len(nodes)), nodes, strict=True)
        )
    ]


def machines_of(workers: Sequence[NodeWorker]) -> Machines | None:
    """How the workers' parts lie on this machine's clock; None where no block has begun."""
    origin = workers[0].origin if workers else None
    if origin is None:
        return None
    drifts = [worker.drift for worker in workers if worker.drift is not None]
    clock = joint_clock(drifts) if len(drifts) == len(workers) else None
    return Machines(
        count=len(workers),
        origin_monotonic_ns=origin.monotonic_ns,
        origin_unix_ns=time.time_ns() + origin.monotonic_ns - time.monotonic_ns(),
        clock_bound_ns=clock.bound_ns if clock else None,
        clock_step_ns=clock.step_ns if clock else 0,
    )
