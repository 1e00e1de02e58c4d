"""Sends a block with several worker processes.

They share one schedule and one origin. Each sends its share, and their journals are merged at the
end.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from foundation.errors import SystemFailed
from foundation.progress import Progress
from foundation.run.records import JournalEnd
from loadgen.sending.block import BlockPlan, near_origin, send_block
from loadgen.sending.journal_parts import merge
from loadgen.sending.local_worker import LocalWorker
from loadgen.sending.workers_needed import stored_ceiling, workers_for

# Workers get the origin this long before it.
_LEAD_NS = 100_000_000


async def run_mix(plans: Mapping[Path, BlockPlan], progress: Progress, stop: asyncio.Event) -> None:
    """Runs the blocks of a mix, by journal, at the same time from one origin, like `run_block`."""
    ready, origin_ns = asyncio.Barrier(len(plans)), 0

    async def start() -> int:
        nonlocal origin_ns
        await ready.wait()
        origin_ns = origin_ns or time.monotonic_ns() + _LEAD_NS
        return origin_ns

    try:
        async with asyncio.TaskGroup() as group:
            for journal, plan in plans.items():
                group.create_task(run_block(plan, journal, progress, stop, start))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def run_block(
    plan: BlockPlan,
    journal: Path,
    progress: Progress,
    stop: asyncio.Event,
    start: Callable[[], Awaitable[int]] | None = None,
) -> JournalEnd:
    """Runs a block and leaves its journal. `progress` advances by 1 for every record.

    `start` returns the origin. When `stop` is set no more requests are sent, those in flight
    finish, and planned requests that were never sent are recorded as cancelled. Cancelling the
    coroutine also ends those in flight. The journal is whole either way. With several workers each
    writes a part (`NAME.part-0`, ...), and the parts are merged at the end.
    """
    _merge_leftovers(journal)
    start = start or (plan.shared_start.origin if plan.shared_start else None)
    workers = _workers(plan)
    if workers == 1:
        return await send_block(plan, journal, progress, stop, start or near_origin)
    journal.parent.mkdir(parents=True, exist_ok=True)
    parts = [journal.with_suffix(f".part-{worker}") for worker in range(workers)]
    fleet = [
        LocalWorker(replace(plan, share=share), part, core)
        for share, part, core in zip(
            plan.share.divided(workers), parts, _own_cores(workers), strict=True
        )
    ]
    try:
        await _run_fleet(fleet, progress, stop, start)
    except asyncio.CancelledError:
        merge(parts, journal)
        raise
    end = merge(parts, journal)
    if end is None:
        raise SystemFailed(
            f"a load generator worker wrote no whole journal; its part lies beside {journal}"
        )
    return end


def _workers(plan: BlockPlan) -> int:
    """How many processes send the block here, so that each has a request to keep in flight."""
    own = plan.share
    needed = workers_for(plan.stage, plan.workload, stored_ceiling(), os.cpu_count() or 1, own)
    limits = (plan.workload.max_in_flight, plan.stage.concurrency)
    return max(1, min(needed, *(len(own.of(limit)) for limit in limits if limit is not None)))


def _own_cores(workers: int) -> Sequence[int | None]:
    """A core for each worker, where there are enough and the OS lets one choose; else None."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    return cores[:workers] if workers <= len(cores) else [None] * workers


def _merge_leftovers(journal: Path) -> None:
    """Merges the parts of workers whose parent was killed, into a file beside the journal."""
    if parts := sorted(journal.parent.glob(f"{journal.stem}.part-*")):
        merge(parts, journal.with_suffix(".jsonl.cut"))
        for part in parts:
            part.unlink(missing_ok=True)


async def _run_fleet(
    fleet: Sequence[LocalWorker],
    progress: Progress,
    stop: asyncio.Event,
    start: Callable[[], Awaitable[int]] | None,
) -> None:
    """Runs the workers to their end. No worker process is left, whatever happens."""
    folder = ExitStack()
    try:
        empty = folder.enter_context(tempfile.TemporaryDirectory(prefix="tunedyno-"))
        await asyncio.gather(*(worker.start(empty) for worker in fleet))
        origin_ns = await start() if start else time.monotonic_ns() + _LEAD_NS
        for worker in fleet:
            worker.order(f"origin {origin_ns}")
        stopper = asyncio.create_task(_stop_fleet(stop, fleet))
        try:
            await asyncio.gather(*(worker.follow(progress) for worker in fleet))
        finally:
            stopper.cancel()
    except asyncio.CancelledError:
        for worker in fleet:
            worker.order("cancel")
        await asyncio.gather(*(worker.wait() for worker in fleet))
        raise
    finally:
        for worker in fleet:
            worker.kill()
        await asyncio.gather(*(worker.wait() for worker in fleet))
        folder.close()


async def _stop_fleet(stop: asyncio.Event, fleet: Sequence[LocalWorker]) -> None:
    """Orders the workers to stop once `stop` is set."""
    await stop.wait()
    for worker in fleet:
        worker.order("stop")
