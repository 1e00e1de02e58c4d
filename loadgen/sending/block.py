"""One block of traffic: one variant, one stage, one journal."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from foundation.http.endpoint import Endpoint
from foundation.models.tokenizer import ModelTokenizer
from foundation.progress import Progress
from foundation.run.journal_writer import JournalWriter
from foundation.run.records import SCHEMA_VERSION, JournalEnd, JournalHeader
from loadgen.config import Stage, WorkloadConfig
from loadgen.prompts.questions import Question
from loadgen.schedule.arrivals import (
    ALONE,
    SECOND,
    WHOLE,
    Place,
    Schedule,
    Share,
    schedule,
    warmup_of,
)
from loadgen.sending.fetch import extended_form
from loadgen.sending.pacing import closed_loop, open_loop
from loadgen.sending.traffic import Traffic
from loadgen.transport import Transport, open_transport

_LEAD_NS = 20_000_000
_BEAT_S = 0.02
_NEW_OBJECTS = 2_000


@dataclass(frozen=True)
class BlockPlan:
    """What one block sends where. `questions` are asked in this order, from the start again when they run out; a closed loop's
    warm-up takes them from the end, so that its window asks the same ones whatever the warm-up took. `place` is the variant's in
    a mix. `tokenizer`: the model folder that counts tokens where the server does not. `identity`: what the journal says it is a
    measurement of. `share` is the part that this process sends; `run_block` sets it for the workers it starts."""

    endpoint: Endpoint
    stage: Stage
    block: int
    seed: int
    questions: Sequence[Question]
    prompt_style: str
    workload: WorkloadConfig
    place: Place = ALONE
    tokenizer: Path | None = None
    identity: str = ""
    share: Share = WHOLE

    @property
    def timetable(self) -> Schedule | None:
        """The whole block's arrivals, None for a closed loop."""
        if not self.stage.open_loop:
            return None
        return schedule(self.stage, self.seed, self.block, self.workload.warmup, self.place)

    @property
    def cache_salt(self) -> str | None:
        """The word under which the server's prefix cache keeps this block's prompts, apart from every other block's.

        Hashed, since vLLM takes neither all characters nor any length.
        """
        if not isinstance(self.workload.cache_salt, str):
            return None
        named = (
            f"{self.workload.cache_salt}/{self.endpoint.variant}/{self.stage.label}/{self.block}"
        )
        return hashlib.sha256(named.encode()).hexdigest()[:32]


async def send_block(
    plan: BlockPlan,
    journal: Path,
    progress: Progress,
    stop: asyncio.Event,
    start: Callable[[], Awaitable[int]],
) -> JournalEnd:
    """Send this process's share of a block and leave its journal. `start` gives the origin, CLOCK_MONOTONIC ns.

    When `stop` is set nothing more is sent, what is in flight gets to finish, and planned requests that were never sent are
    recorded as cancelled. Cancelling the coroutine ends what is in flight too; the journal is whole either way.
    """
    workload, timetable = plan.workload, plan.timetable
    tokenizer = ModelTokenizer(plan.tokenizer) if plan.tokenizer else None
    with _collector_brief():
        async with open_transport(plan.endpoint, workload.transport) as transport:
            extended = await extended_form(transport, workload.deadlines.connect)
            origin_ns = await start()
            header = _header(plan, transport, timetable, origin_ns)
            with JournalWriter(journal, header) as writer:
                traffic = Traffic(
                    transport,
                    plan.endpoint,
                    workload,
                    extended,
                    origin_ns,
                    writer,
                    progress,
                    plan.cache_salt,
                    tokenizer,
                )
                return await _drive(plan, traffic, timetable, header.window_start_ns, stop)


async def soon() -> int:
    """An origin a little ahead, so that an arrival at 0 is not late from the start."""
    return time.monotonic_ns() + _LEAD_NS


async def _drive(
    plan: BlockPlan,
    traffic: Traffic,
    timetable: Schedule | None,
    window_start_ns: int,
    stop: asyncio.Event,
) -> JournalEnd:
    """Let the loop run and write the end line, with the client's own condition."""
    cpu_s = time.process_time()

    def end(window_end_ns: int, interrupted: bool) -> JournalEnd:
        line = JournalEnd(
            end="interrupted" if interrupted else "complete",
            ended_ns=traffic.now_ns(),
            window_end_ns=window_end_ns,
            loop_stall_max_ns=heart.longest_ns,
            client_cpu_s=time.process_time() - cpu_s,
            clock_step_ns=traffic.transport.clock_step_ns,
        )
        traffic.writer.end(line)
        return line

    async with _heartbeat(traffic.writer) as heart:
        try:
            if timetable is not None:
                room = len(plan.share.of(plan.workload.max_in_flight))
                window_end_ns = await open_loop(
                    traffic, plan.questions, plan.stage, timetable, plan.share, room, stop
                )
            else:
                window_end_ns = await closed_loop(
                    traffic, plan.questions, plan.stage, plan.share, window_start_ns, stop
                )
        except asyncio.CancelledError:
            stopped_ns = traffic.stopped_ns  # what was never sent lies outside the window
            traffic.close()
            end(traffic.now_ns() if stopped_ns is None else stopped_ns, interrupted=True)
            raise
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        return end(window_end_ns, stop.is_set())


def _header(
    plan: BlockPlan, transport: Transport, timetable: Schedule | None, origin_ns: int
) -> JournalHeader:
    stage = plan.stage
    start_ns = round(warmup_of(stage, plan.workload.warmup) * SECOND)
    whole_sessions = stage.duration is None and any(question.then for question in plan.questions)
    closed_end_ns = None if stage.duration is None else start_ns + round(stage.duration * SECOND)
    return JournalHeader(
        schema_version=SCHEMA_VERSION,
        variant=plan.endpoint.variant,
        stage=stage.label,
        block=plan.block,
        seed=plan.seed,
        transport=transport.name,
        clock=transport.clock,
        origin_monotonic_ns=origin_ns,
        origin_unix_ns=time.time_ns() + origin_ns - time.monotonic_ns(),
        model=plan.endpoint.model,
        prompt_style=plan.prompt_style,
        api=plan.workload.api,
        arrivals="closed" if timetable is None else "trace" if stage.trace else stage.arrivals,
        offered_rate=None if timetable is None else _offered(stage, timetable, plan.place),
        concurrency=stage.concurrency,
        planned=stage.requests if timetable is None else len(timetable.times_ns),
        window_start_ns=start_ns,
        window_end_ns=closed_end_ns
        if timetable is None or whole_sessions
        else timetable.window_end_ns,
        workers=plan.share.workers,
        receiver=transport.receiver,
        identity=plan.identity,
    )


def _offered(stage: Stage, timetable: Schedule, place: Place) -> float:
    """Arrivals/s over the window: what the stage names, on average, or what its recording held."""
    if (rate := stage.fixed_rate) is not None:
        whole = rate if stage.rate_to is None else (rate + stage.rate_to) / 2
        return whole * place.share(stage.mix) if stage.mix else whole
    inside = (timetable.times_ns >= timetable.window_start_ns).sum()
    return float(inside) / (timetable.window_end_ns - timetable.window_start_ns) * SECOND


@contextmanager
def _collector_brief() -> Iterator[None]:
    """Garbage collection only of what is new, in small portions.

    A full one stops the event loop for tens of milliseconds, one of 50,000 new objects for nine. None at all would let failed
    requests through aiohttp, whose tracebacks are cycles, fill the memory.
    """
    if gc.get_freeze_count():  # another block of a mix has seen to it
        yield
        return
    usual = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 100, 100)
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()


@dataclass
class _Heart:
    longest_ns: int = 0


@asynccontextmanager
async def _heartbeat(writer: JournalWriter) -> AsyncIterator[_Heart]:
    """Flushes the journal, and measures how long the event loop was ever away from its work.

    Where the journal can't be written any more, what goes on within ends at once, and that is raised.
    """
    heart = _Heart()

    async def beat() -> None:
        while True:
            before_ns = time.monotonic_ns()
            await asyncio.sleep(_BEAT_S)
            late_ns = time.monotonic_ns() - before_ns - int(_BEAT_S * SECOND)
            heart.longest_ns = max(heart.longest_ns, late_ns)
            writer.tick()

    driving = asyncio.current_task()
    assert driving is not None

    def end_all(beating: asyncio.Task[None]) -> None:
        if not beating.cancelled() and beating.exception() is not None:
            driving.cancel()

    beating = asyncio.create_task(beat())
    beating.add_done_callback(end_all)
    try:
        yield heart
        if beating.done():
            beating.result()
    except asyncio.CancelledError:
        if beating.done():
            driving.uncancel()
            beating.result()
        raise
    finally:
        beating.remove_done_callback(end_all)
        beating.cancel()
