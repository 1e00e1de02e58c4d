"""Sends a block with several worker processes.

They share one schedule and one origin. Each sends its share, and their journals are merged at the
end.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import pickle
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO

import msgspec

from foundation.errors import SystemFailed
from foundation.files.atomic_write import whole_file
from foundation.processes.python_child import run_module
from foundation.progress import Progress
from foundation.run.records import JournalEnd, JournalHeader
from loadgen.schedule.arrivals import WorkerShare
from loadgen.sending.block import BlockPlan, near_origin, send_block
from loadgen.sending.workers_needed import stored_ceiling, workers_for

# Workers get the origin this long before it.
_LEAD_NS = 100_000_000


class WorkerMessage(msgspec.Struct, omit_defaults=True):
    """A line from a worker.

    `ready`: it can start. `ended`: requests that ended since the last line, with a `note` on them.
    `error`: why it ends.
    """

    ready: bool = False
    ended: int = 0
    note: str = ""
    error: str = ""


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
    workers = workers_for(plan.stage, plan.workload, stored_ceiling(), os.cpu_count() or 1)
    workers = min(workers, plan.workload.max_in_flight, plan.stage.concurrency or workers)
    if workers == 1:
        return await send_block(plan, journal, progress, stop, start or near_origin)
    journal.parent.mkdir(parents=True, exist_ok=True)
    parts = [journal.with_suffix(f".part-{worker}") for worker in range(workers)]
    fleet = [
        _Worker(replace(plan, share=WorkerShare(worker, workers)), part)
        for worker, part in enumerate(parts)
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


def _merge_leftovers(journal: Path) -> None:
    """Merges the parts of workers whose parent was killed, into a file beside the journal."""
    if parts := sorted(journal.parent.glob(f"{journal.stem}.part-*")):
        merge(parts, journal.with_suffix(".jsonl.cut"))
        for part in parts:
            part.unlink(missing_ok=True)


async def _run_fleet(
    fleet: Sequence[_Worker],
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


def merge(parts: Sequence[Path], journal: Path) -> JournalEnd | None:
    """Merges the workers' parts into one journal and removes them: records in the order they
    ended.

    Where a worker was killed before it wrote its end line, the journal has none either, and None is
    returned.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(part.open("rb")) for part in parts if part.is_file()]
        headers = [file.readline() for file in files]
        if not headers or not all(line.endswith(b"\n") for line in headers):
            return None
        ends: list[JournalEnd] = []
        with whole_file(journal) as place, place.open("wb") as out:
            out.write(headers[0])
            for _, line in heapq.merge(
                *(_records(file, ends) for file in files), key=lambda row: row[0]
            ):
                out.write(line)
            end = _joint_end(ends, headers[0]) if len(ends) == len(parts) else None
            if end is not None:
                out.write(msgspec.json.encode(end) + b"\n")
    for part in parts:
        part.unlink(missing_ok=True)
    return end


def _joint_end(ends: Sequence[JournalEnd], header: bytes) -> JournalEnd:
    """The end line of the merged journal."""
    window_end = min if msgspec.json.decode(header, type=JournalHeader).concurrency else max
    return JournalEnd(
        end="complete" if all(end.end == "complete" for end in ends) else "interrupted",
        ended_ns=max(end.ended_ns for end in ends),
        window_end_ns=window_end(end.window_end_ns for end in ends),
        loop_stall_max_ns=max(end.loop_stall_max_ns for end in ends),
        client_cpu_s=sum(end.client_cpu_s for end in ends),
        clock_step_ns=max(end.clock_step_ns for end in ends),
    )


class _Ended(msgspec.Struct):
    done_ns: int | None = None


def _records(file: IO[bytes], ends: list[JournalEnd]) -> Iterator[tuple[int, bytes]]:
    """The records of a part with the time each ended. Its end line goes to `ends`."""
    at_ns = 0
    for line in file:
        if not line.endswith(b"\n"):  # the worker was killed while it wrote, or the disk lost it
            return
        try:
            if line.startswith(b'{"end":'):
                ends.append(msgspec.json.decode(line, type=JournalEnd))
                return
            at_ns = max(at_ns, msgspec.json.decode(line, type=_Ended).done_ns or 0)
        except msgspec.DecodeError:
            return
        yield at_ns, line


def _decoded(line: bytes) -> WorkerMessage:
    """A worker's message. Raises SystemFailed where it reports an error."""
    message = msgspec.json.decode(line, type=WorkerMessage)
    if message.error:
        raise SystemFailed(message.error)
    return message


async def _stop_fleet(stop: asyncio.Event, fleet: Sequence[_Worker]) -> None:
    """Orders the workers to stop once `stop` is set."""
    await stop.wait()
    for worker in fleet:
        worker.order("stop")


class _Worker:
    """One `python -m loadgen.sending.worker`, which gets its orders on standard input."""

    def __init__(self, plan: BlockPlan, part: Path) -> None:
        self._plan, self._part = plan, part
        self._process: asyncio.subprocess.Process | None = None
        self._complaints: asyncio.Task[bytes] | None = None

    async def start(self, folder: str) -> None:
        """Starts the process in `folder` and waits until it has a connection."""
        self._process = await asyncio.create_subprocess_exec(
            *run_module("loadgen.sending.worker"),
            cwd=folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is ours to pass on
        )
        assert self._process.stdin is not None
        work = pickle.dumps((self._plan, self._part.absolute()))
        self._process.stdin.write(len(work).to_bytes(8, "big") + work)
        assert self._process.stderr is not None
        # Read all the time. A worker whose complaints fill the pipe would wait for us, and we for
        # it.
        self._complaints = asyncio.create_task(self._process.stderr.read())
        self._pin()
        if not (await self._next_message()).ready:
            raise SystemFailed(f"load generator worker {self._plan.share.worker} did not start")

    def order(self, line: str) -> None:
        if (
            self._process is not None
            and self._process.stdin is not None
            and not self._process.stdin.is_closing()
        ):
            self._process.stdin.write(line.encode() + b"\n")

    async def follow(self, progress: Progress) -> None:
        """Passes on the worker's progress until it has ended."""
        assert self._process is not None and self._process.stdout is not None
        while line := await self._process.stdout.readline():
            message = _decoded(line)
            for _ in range(message.ended):
                progress.advance(1, f"worker {self._plan.share.worker}: {message.note}")
        await self._check()

    async def wait(self) -> None:
        if self._process is not None:
            await self._process.wait()

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _next_message(self) -> WorkerMessage:
        assert self._process is not None and self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            await self._check()
        return _decoded(line) if line else WorkerMessage()

    async def _check(self) -> None:
        assert self._process is not None and self._complaints is not None
        complaints = (await self._complaints).decode("utf-8", "replace")
        if code := await self._process.wait():
            complaint = self._plan.endpoint.redacted(complaints)[-2000:]
            raise SystemFailed(
                f"load generator worker {self._plan.share.worker} ended with {code}", complaint
            )

    def _pin(self) -> None:
        """Gives the process a core of its own, where there are enough and the OS allows it."""
        if self._process is not None and hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            if self._plan.share.workers <= len(cores):
                os.sched_setaffinity(self._process.pid, {cores[self._plan.share.worker]})
