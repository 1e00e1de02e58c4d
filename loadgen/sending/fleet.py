"""A block sent by several worker processes: one schedule, one origin, each its share, and one journal in the end."""

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
from loadgen.schedule.arrivals import Share
from loadgen.sending.block import BlockPlan, send_block, soon
from loadgen.sending.workers_needed import stored_ceiling, workers_for

# Workers learn the origin this long before it.
_LEAD_NS = 100_000_000


class Said(msgspec.Struct, omit_defaults=True):
    """A line from a worker: ready to start; how many requests have ended since the last one, and its note on them; its error."""

    ready: bool = False
    ended: int = 0
    note: str = ""
    error: str = ""


async def run_mix(plans: Mapping[Path, BlockPlan], progress: Progress, stop: asyncio.Event) -> None:
    """Run the blocks of a mix, by journal, at the same time from one origin; as `run_block` otherwise."""
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
    """Run a block and leave its journal. `progress` is advanced by 1 for every record, `start` gives the origin when asked.

    When `stop` is set nothing more is sent, what is in flight gets to finish, and planned requests that were never sent are
    recorded as cancelled. Cancelling the coroutine ends what is in flight too; the journal is whole either way.
    With more workers than one each writes a part (`NAME.part-0`, ...), and the journal is made of them at the end.
    """
    if left := sorted(
        journal.parent.glob(f"{journal.stem}.part-*")
    ):  # of workers whose parent was killed
        merge(left, journal.with_suffix(".jsonl.cut"))
        for part in left:
            part.unlink(missing_ok=True)
    workers = workers_for(plan.stage, plan.workload, stored_ceiling(), os.cpu_count() or 1)
    workers = min(workers, plan.workload.max_in_flight, plan.stage.concurrency or workers)
    if workers == 1:
        return await send_block(plan, journal, progress, stop, start or soon)
    journal.parent.mkdir(parents=True, exist_ok=True)
    parts = [journal.with_suffix(f".part-{worker}") for worker in range(workers)]
    fleet = [
        _Worker(replace(plan, share=Share(worker, workers)), part)
        for worker, part in enumerate(parts)
    ]
    folder = ExitStack()
    try:
        nowhere = folder.enter_context(tempfile.TemporaryDirectory(prefix="tunedyno-"))
        await asyncio.gather(*(worker.start(nowhere) for worker in fleet))
        origin_ns = await start() if start else time.monotonic_ns() + _LEAD_NS
        for worker in fleet:
            worker.say(f"origin {origin_ns}")
        stopper = asyncio.create_task(_tell_when(stop, fleet))
        try:
            await asyncio.gather(*(worker.follow(progress) for worker in fleet))
        finally:
            stopper.cancel()
    except asyncio.CancelledError:
        for worker in fleet:
            worker.say("cancel")
        await asyncio.gather(*(worker.wait() for worker in fleet))
        merge(parts, journal)
        raise
    finally:
        for worker in fleet:
            worker.kill()
        await asyncio.gather(*(worker.wait() for worker in fleet))
        folder.close()
    end = merge(parts, journal)
    if end is None:
        raise SystemFailed(
            f"a load generator worker wrote no whole journal; its part lies beside {journal}"
        )
    return end


def merge(parts: Sequence[Path], journal: Path) -> JournalEnd | None:
    """One journal of the workers' parts, which are then removed: records in the order they ended, never averages of averages.

    It has no end line, and None is returned, where a worker was killed before it wrote its own.
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
            end = _end_of(ends, headers[0]) if len(ends) == len(parts) else None
            if end is not None:
                out.write(msgspec.json.encode(end) + b"\n")
    for part in parts:
        part.unlink(missing_ok=True)
    return end


def _end_of(ends: Sequence[JournalEnd], header: bytes) -> JournalEnd:
    ended = min if msgspec.json.decode(header, type=JournalHeader).concurrency else max
    return JournalEnd(
        end="complete" if all(end.end == "complete" for end in ends) else "interrupted",
        ended_ns=max(end.ended_ns for end in ends),
        window_end_ns=ended(end.window_end_ns for end in ends),
        loop_stall_max_ns=max(end.loop_stall_max_ns for end in ends),
        client_cpu_s=sum(end.client_cpu_s for end in ends),
        clock_step_ns=max(end.clock_step_ns for end in ends),
    )


class _Ended(msgspec.Struct):
    done_ns: int | None = None


def _records(file: IO[bytes], ends: list[JournalEnd]) -> Iterator[tuple[int, bytes]]:
    """The records of a part with the time each ended; its end line goes to `ends`."""
    at_ns = 0
    for line in file:
        if not line.endswith(b"\n"):  # its worker was killed while it wrote, or its disk lost it
            return
        try:
            if line.startswith(b'{"end":'):
                ends.append(msgspec.json.decode(line, type=JournalEnd))
                return
            at_ns = max(at_ns, msgspec.json.decode(line, type=_Ended).done_ns or 0)
        except msgspec.DecodeError:
            return
        yield at_ns, line


def _understood(line: bytes) -> Said:
    """What a worker says. Raises SystemFailed where that is why it ends."""
    said = msgspec.json.decode(line, type=Said)
    if said.error:
        raise SystemFailed(said.error)
    return said


async def _tell_when(stop: asyncio.Event, fleet: Sequence[_Worker]) -> None:
    await stop.wait()
    for worker in fleet:
        worker.say("stop")


class _Worker:
    """One `python -m loadgen.sending.worker`, told what to do on its standard input."""

    def __init__(self, plan: BlockPlan, part: Path) -> None:
        self._plan, self._part = plan, part
        self._process: asyncio.subprocess.Process | None = None
        self._complaints: asyncio.Task[bytes] | None = None

    async def start(self, folder: str) -> None:
        """Start the process in `folder` and wait until it has a connection."""
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
        # Read all the while: a worker that complains more than a pipe holds would else wait for us, and we for it.
        self._complaints = asyncio.create_task(self._process.stderr.read())
        self._pin()
        if not (await self._said()).ready:
            raise SystemFailed(f"load generator worker {self._plan.share.worker} did not start")

    def say(self, line: str) -> None:
        if (
            self._process is not None
            and self._process.stdin is not None
            and not self._process.stdin.is_closing()
        ):
            self._process.stdin.write(line.encode() + b"\n")

    async def follow(self, progress: Progress) -> None:
        """Pass on what the worker says until it is done."""
        assert self._process is not None and self._process.stdout is not None
        while line := await self._process.stdout.readline():
            said = _understood(line)
            for _ in range(said.ended):
                progress.advance(1, f"worker {self._plan.share.worker}: {said.note}")
        await self._check()

    async def wait(self) -> None:
        if self._process is not None:
            await self._process.wait()

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _said(self) -> Said:
        assert self._process is not None and self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            await self._check()
        return _understood(line) if line else Said()

    async def _check(self) -> None:
        assert self._process is not None and self._complaints is not None
        complaints = (await self._complaints).decode("utf-8", "replace")
        if code := await self._process.wait():
            said = self._plan.endpoint.redacted(complaints)[-2000:]
            raise SystemFailed(
                f"load generator worker {self._plan.share.worker} ended with {code}", said
            )

    def _pin(self) -> None:
        """A core of its own, where there are enough and the OS lets us."""
        if self._process is not None and hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            if self._plan.share.workers <= len(cores):
                os.sched_setaffinity(self._process.pid, {cores[self._plan.share.worker]})
