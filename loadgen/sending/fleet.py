"""Sends a block with several workers: processes on this machine, or on others.

They share one schedule and one origin. Each sends its share, and their journals are merged at the
end.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from foundation.errors import SystemFailed
from foundation.progress import Progress
from foundation.run.records import JournalEnd
from loadgen.sending.block import BlockPlan, near_origin, send_block
from loadgen.sending.journal_parts import merge, part_of
from loadgen.sending.local_worker import LocalWorker
from loadgen.sending.nodes.fleet import machines_of, node_workers
from loadgen.sending.origin import Origin
from loadgen.sending.workers_needed import stored_ceiling, workers_for


class Worker(Protocol):
    """Sends its share of a block, wherever it runs, and leaves its part of the journal here."""

    part: Path

    async def start(self, folder: str) -> None:
        """Starts it in `folder` and waits until it has a connection."""

    async def begin(self, origin: Origin) -> None:
        """Has it send its share from this origin on."""

    async def order(self, line: str) -> None:
        """Has it `stop`, and finish what is in flight, or `cancel` that too."""

    async def follow(self, progress: Progress) -> None:
        """Passes on its progress until it has ended and its part is here."""

    async def close(self) -> None:
        """Ends it at once where it still runs."""


async def run_mix(plans: Mapping[Path, BlockPlan], progress: Progress, stop: asyncio.Event) -> None:
    """Runs the blocks of a mix, by journal, at the same time from one origin, like `run_block`."""
    ready, origin = asyncio.Barrier(len(plans)), None
    lead_ns = max(plan.lead_ns for plan in plans.values())

    async def start() -> Origin:
        nonlocal origin
        await ready.wait()
        origin = origin or Origin.ahead(lead_ns)
        return origin

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
    start: Callable[[], Awaitable[Origin]] | None = None,
) -> JournalEnd:
    """Runs a block and leaves its journal. `progress` advances by 1 for every record.

    `start` returns the origin. When `stop` is set no more requests are sent, those in flight
    finish, and planned requests that were never sent are recorded as cancelled. Cancelling the
    coroutine also ends those in flight. The journal is whole either way. With several workers each
    writes a part (`NAME.part-0`, ...), and the parts are merged at the end. Where a worker fails,
    the others end at once, and the journal has their records and no end line.
    """
    _merge_leftovers(journal)
    start = start or (plan.shared_start.origin if plan.shared_start else None)
    nodes = node_workers(plan, journal)
    fleet: Sequence[Worker] = nodes or _local_workers(plan, journal)
    if not fleet:
        return await send_block(plan, journal, progress, stop, start or near_origin)

    async def soon() -> Origin:
        return Origin.ahead(plan.lead_ns)

    journal.parent.mkdir(parents=True, exist_ok=True)
    parts = [worker.part for worker in fleet]
    try:
        await _run_fleet(fleet, progress, stop, start or soon)
    except BaseException:
        with suppress(OSError):  # the parts stay then, and why the load ended is what counts
            merge(parts, journal, machines_of(nodes))
        raise
    end = merge(parts, journal, machines_of(nodes))
    if end is None:
        raise SystemFailed(
            f"a load generator worker wrote no whole journal; what there is lies in {journal}"
        )
    return end


def _local_workers(plan: BlockPlan, journal: Path) -> list[LocalWorker]:
    """The workers of a block on this machine; none where this process sends it alone."""
    workers = _workers(plan)
    if workers == 1:
        return []
    shares, cores = plan.share.divided(workers), _own_cores(workers)
    return [
        LocalWorker(replace(plan, share=share), part_of(journal, number), core)
        for number, (share, core) in enumerate(zip(shares, cores, strict=True))
    ]


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
    fleet: Sequence[Worker],
    progress: Progress,
    stop: asyncio.Event,
    start: Callable[[], Awaitable[Origin]],
) -> None:
    """Runs the workers to their end. No worker is left, whatever happens."""
    with tempfile.TemporaryDirectory(prefix="tunedyno-") as empty:
        try:
            await asyncio.gather(*(worker.start(empty) for worker in fleet))
            origin = await start()
            await asyncio.gather(*(worker.begin(origin) for worker in fleet))
            stopper = asyncio.create_task(_stop_fleet(stop, fleet))
            try:
                await _follow(fleet, progress)
            finally:
                stopper.cancel()
        finally:
            await asyncio.gather(*(worker.close() for worker in fleet))


async def _follow(fleet: Sequence[Worker], progress: Progress) -> None:
    """Waits until all workers have ended. Where one fails, has the others end at once.

    Raises the error of one that failed.
    """
    following = [asyncio.create_task(worker.follow(progress)) for worker in fleet]
    try:
        await asyncio.wait(following, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        running = [worker for worker, task in zip(fleet, following, strict=True) if not task.done()]
        orders = (worker.order("cancel") for worker in running)
        await asyncio.gather(*orders, *following, return_exceptions=True)
    for task in following:
        task.result()


async def _stop_fleet(stop: asyncio.Event, fleet: Sequence[Worker]) -> None:
    """Orders the workers to stop once `stop` is set."""
    await stop.wait()
    # A node that is lost fails where it is followed.
    await asyncio.gather(*(worker.order("stop") for worker in fleet), return_exceptions=True)
