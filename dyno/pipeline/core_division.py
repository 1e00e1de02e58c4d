"""Decides which cores a run's load generator gets, and which its servers."""

from __future__ import annotations

from foundation.cores import CoreDivision, divide_cores, quota_cores, usable_cores
from loadgen.config import WorkloadConfig
from loadgen.sending.workers_needed import stored_ceiling, workers_for
from serve import ServePlan
from serve.device import bound_by_hand, device_for


def core_division(workload: WorkloadConfig, plan: ServePlan) -> CoreDivision | None:
    """The cores of each side; None if they share them.

    They share them on a machine with two cores, and where vLLM's threads are bound by hand. A
    load from other machines, on accelerators or on APIs elsewhere needs no division.
    """
    if workload.machines is not None or not plan.servers:
        return None
    if bound_by_hand() or device_for(plan.config).kind != "cpu":
        return None
    cores, ceiling = usable_cores(), stored_ceiling()
    processes = [workers_for(stage, workload, ceiling, len(cores)) for stage in workload.stages]
    return divide_cores(cores, max(processes, default=1), quota_cores())
