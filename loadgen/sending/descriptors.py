"""Raises the limit of open files.

Each request in flight has a connection of its own, and a process may open only so many files.
"""

from __future__ import annotations

import os
from math import ceil
from pathlib import Path

from foundation.errors import BadInput
from loadgen.config import Stage, WorkloadConfig
from loadgen.schedule.arrivals import WHOLE, WorkerShare, planned_requests
from loadgen.sending.workers_needed import stored_ceiling, workers_for

# Journals, logs, pipes to servers and workers, and files that libraries open.
_SPARE = 64
_OPEN = Path("/proc/self/fd")


def most_in_flight(stage: Stage, workload: WorkloadConfig, variants: int) -> int:
    """The most requests that a block of the stage can have in flight, over all variants of a
    mix.
    """
    if stage.concurrency is not None:
        return stage.concurrency
    most = workload.max_in_flight * (variants if stage.mix else 1)
    planned = planned_requests(stage, workload.seed, 1, workload.warmup)
    return most if planned is None else min(most, planned)


def allow_connections(workload: WorkloadConfig, variants: int, share: WorkerShare = WHOLE) -> None:
    """Lets this process, and the workers it will start, open as many files as the load needs.

    `share`: of the load, what this machine sends. Raises BadInput where the system does not allow
    it, unless other machines send.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_open = sum(1 for _ in _OPEN.iterdir()) if _OPEN.is_dir() else 0
    for stage in workload.stages:
        most = len(share.of(most_in_flight(stage, workload, variants)))
        workers = workers_for(stage, workload, stored_ceiling(), os.cpu_count() or 1, share)
        needed = ceil(most / workers) + is_open + _SPARE
        if workload.machines is None and resource.RLIM_INFINITY != hard < needed:
            raise BadInput(
                f"{stage.label}: up to {most:,} requests in flight need {needed:,} open files, "
                f"and the system allows {hard:,}: allow more (ulimit -n), or write a lower "
                "concurrency, rate or workload.max_in_flight"
            )
        if resource.RLIM_INFINITY != soft < needed:
            soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
