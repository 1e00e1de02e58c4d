"""The servers of variants that are loaded, and the cores that they and their load get."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

from dyno.pipeline.core_division import core_division
from dyno.pipeline.prepared import Prepared
from foundation.cores import CoreDivision, on_processors
from foundation.progress import Progress
from loadgen import reach
from serve import Hosting, ServePlan, ServerFolders


@dataclass(frozen=True)
class LoadedServers:
    """`hosting`: starts the servers. `cores`: of each side, None if they share them."""

    hosting: Hosting
    cores: CoreDivision | None

    @classmethod
    def of(
        cls, prepared: Prepared, plan: ServePlan, folders: ServerFolders, progress: Progress
    ) -> LoadedServers:
        """The servers of a plan, each on cores that the workload's load generator leaves it."""
        workload = prepared.experiment.workload
        cores = core_division(workload, plan)
        if cores is not None:
            plan = replace(plan, processors=cores.servers)
        answers = partial(reach, workload=workload, log=progress.log)
        hosting = Hosting(plan, folders, progress, answers, workload.deadlines.first)
        return cls(hosting, cores)

    def on_load_cores(self) -> AbstractContextManager[None]:
        """Keeps this thread, and what it starts, on the load generator's cores."""
        return on_processors(self.cores.load if self.cores else None)
