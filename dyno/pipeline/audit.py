"""Measures the load that a capacity plan names: on a server of its own, in a folder of its own."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from math import ceil

from dyno.pipeline.block_runner import guarded
from dyno.pipeline.blocks import (
    LoadBlock,
    even_arrivals,
    replicas_of,
    stage_blocks,
    warm_up_blocks,
)
from dyno.pipeline.failures import ends_without_server
from dyno.pipeline.loaded_servers import LoadedServers
from dyno.pipeline.opened_run import OpenedRun
from dyno.pipeline.serving import plan_serving
from dyno.pipeline.stopping import handled
from dyno.terminal.signals import ENDING
from foundation.errors import SystemFailed
from foundation.progress import Silent
from foundation.run.journal import read_prompts
from foundation.run.layout import RunDirectory
from loadgen.config import Stage, WorkloadConfig
from loadgen.sending.workers_needed import check_rate
from results.analysis import summarise
from results.capacity.plan.audits import measured_audit
from results.capacity.plan.capacity_plan import Audit
from results.capacity.plan.measured_rate import (
    absolute_slo,
    capacity_objectives,
    goodput_of_one,
    stage_outcome,
)
from results.inputs import RunInputs
from results.measures.measured import read_measured
from results.metrics import FLOORS, RECORDS
from serve import ServerFolders

STAGE = "audit"
REQUESTS = 250
"""Of an audit, all blocks together, where no percentile needs more than p95, which needs 200."""


async def load_audit(run: OpenedRun, audit: Audit) -> RunDirectory:
    """Loads each replica as the audit says. Returns the folder of its journals, laid out as a run.

    Raises SystemFailed, KeyboardInterrupt, and BadInput for a rate that this machine can't send.
    """
    check_rate(audit.rate * replicas_of(run.prepared, audit.variant), "--audit")
    folder = _new_folder(run.directory)
    task = asyncio.current_task()
    assert task is not None
    try:
        with handled(dict.fromkeys(ENDING, task.cancel)):
            await _load(run, folder, audit)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    return folder


def _new_folder(run: RunDirectory) -> RunDirectory:
    """`audits/1`, `audits/2`, ... in the run; an audit that was cut off keeps its own."""
    folders = (run.path / "audits" / str(number) for number in count(1))
    path = next(folder for folder in folders if not folder.exists())
    path.mkdir(parents=True)
    return RunDirectory(path)


async def _load(run: OpenedRun, folder: RunDirectory, audit: Audit) -> None:
    prepared, progress = run.prepared, run.progress
    workload = prepared.experiment.workload
    plan = plan_serving(prepared, run.directory)
    servers = LoadedServers.of(prepared, plan, ServerFolders(folder.logs), progress)
    hosting = servers.hosting
    names = [audit.variant]
    stage = audit_stage(workload, audit, replicas_of(prepared, audit.variant))
    async with AsyncExitStack() as stack:
        stack.enter_context(servers.on_load_cores())
        endpoints = await stack.enter_async_context(hosting.round(names))
        await hosting.ready(names)
        for block in warm_up_blocks(prepared, names, folder):
            await block.run(endpoints, Silent(), asyncio.Event())
        blocks = [
            block
            for block in stage_blocks(prepared, names, folder, stage, workload.blocks)
            if isinstance(block, LoadBlock)
        ]
        progress.stage(
            f"audit {audit.variant}", sum(block.requests for block in blocks), "requests"
        )
        for block in blocks:
            watch = partial(hosting.watch, names)
            await guarded(watch, block.run(endpoints, progress, asyncio.Event()))
            if ends_without_server(block.journal):  # what a server that is gone does is no audit
                await hosting.check_answers(endpoints[audit.variant])


def audit_stage(workload: WorkloadConfig, audit: Audit, replicas: int = 1) -> Stage:
    """The audit's rate for each of the `replicas`, which share the requests.

    It has the arrivals of the run's first stage of an even rate, else Poisson.
    """
    floors = [FLOORS[RECORDS[m].q] for m in audit.expected if RECORDS[m].statistic[:1] == "p"]
    requests = REQUESTS / FLOORS[95.0] * max([FLOORS[95.0], *floors])
    return Stage.model_validate(
        {
            "name": STAGE,
            "rate": audit.rate * replicas,
            "requests": ceil(requests / workload.blocks),
            **even_arrivals(workload),
        }
    )


def audited(
    audit: Audit, folder: RunDirectory, inputs: RunInputs, limits: dict[str, float]
) -> Audit:
    """The audit with what its journals show. `limits`: of the SLO, in each metric's unit.

    Raises SystemFailed where the measurement is INVALID: it says nothing about the plan.
    """
    own = replace(
        inputs,
        baseline=audit.variant,
        judged_stage=STAGE,
        variants=[v for v in inputs.variants if v.name == audit.variant],
        slo=absolute_slo(limits),
        run=folder.path,
        stages=[STAGE],
        resolution=None,
        uneven={},
        failed={},
    )
    prompts = read_prompts(inputs.run)
    [variant] = summarise(own, read_measured(own, prompts), prompts).variants
    stage = variant.at_judged_stage
    if stage is None or stage.validity.level == "INVALID":
        reasons = "; ".join(stage.validity.reasons) if stage else "no journal"
        raise SystemFailed(f"the audit of {audit.variant} is INVALID: {reasons}")
    outcome = stage_outcome(stage, capacity_objectives(own, audit.variant))
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return measured_audit(audit, {**stage.metrics, **goodput_of_one(stage)}, outcome, at)
