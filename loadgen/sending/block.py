"""Sends one block of traffic: one variant, one stage, one journal."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from foundation.http.endpoint import Endpoint
from foundation.models.tokenizer import ModelTokenizer
from foundation.progress import Progress
from foundation.run.journal_writer import JournalWriter
from foundation.run.records import SCHEMA_VERSION, JournalEnd, JournalHeader, RouterKind
from loadgen.config import Stage, WorkloadConfig
from loadgen.prompts.questions import Question
from loadgen.protocol.openai import RequestFormat
from loadgen.schedule.arrivals import (
    ALONE,
    SECOND,
    WHOLE,
    MixPlace,
    Schedule,
    WorkerShare,
    schedule,
    warmup_of,
)
from loadgen.sending.fetch import extended_form
from loadgen.sending.nodes.node import Node
from loadgen.sending.origin import Origin
from loadgen.sending.pacing import closed_loop, open_loop
from loadgen.sending.shared_start import SharedStart
from loadgen.sending.traffic import Traffic
from loadgen.transport import Transport, open_transports

_LEAD_NS = 20_000_000
# Workers get the origin so long before it, and those on other machines so long.
_WORKERS_LEAD_NS = 100_000_000
_NODES_LEAD_NS = 1_000_000_000
_BEAT_S = 0.02
_NEW_OBJECTS = 2_000


@dataclass(frozen=True)
class BlockPlan:
    """What one block sends where.

    `questions` are asked in this order, and from the start again when they run out. A closed loop's
    warm-up takes them from the end, so its window asks the same ones whatever the warm-up took.
    `place`: the variant's in a mix. `tokenizer`: the model folder that counts tokens where the
    server does not. `identity`: what the journal is a measurement of. `share`: the part that this
    process sends; `run_block` divides it among the workers it starts. `shared_start`: where other
    machines send the rest. `nodes`: the machines that send the share; without any, this one does.
    `arrivals`: the whole block's, where another machine computed them from its files.
    """

    endpoint: Endpoint
    stage: Stage
    block: int
    seed: int
    questions: Sequence[Question]
    prompt_style: str
    workload: WorkloadConfig
    place: MixPlace = ALONE
    tokenizer: Path | None = None
    identity: str = ""
    share: WorkerShare = WHOLE
    shared_start: SharedStart | None = None
    nodes: tuple[Node, ...] = ()
    arrivals: Schedule | None = None

    @property
    def timetable(self) -> Schedule | None:
        """The whole block's arrivals, None for a closed loop."""
        if not self.stage.open_loop or self.arrivals is not None:
            return self.arrivals
        return schedule(self.stage, self.seed, self.block, self.workload.warmup, self.place)

    @property
    def lead_ns(self) -> int:
        """How long before the origin several workers get it, ns."""
        return _NODES_LEAD_NS if self.nodes else _WORKERS_LEAD_NS

    @property
    def cache_salt(self) -> str | None:
        """The salt that separates this block's prompts from all others in the server's prefix
        cache.

        It is a hash, because vLLM takes neither all characters nor any length.
        """
        if not isinstance(self.workload.cache_salt, str):
            return None
        name = f"{self.workload.cache_salt}/{self.endpoint.variant}/{self.stage.label}/{self.block}"
        return hashlib.sha256(name.encode()).hexdigest()[:32]

    def request_format(self, extended: bool) -> RequestFormat:
        """How the block's requests are written. `extended`: in the form of vLLM and SGLang."""
        return RequestFormat(
            self.endpoint.model,
            self.workload.api,
            self.workload.sampling,
            extended,
            self.cache_salt,
            self.endpoint.form,
        )


async def send_block(
    plan: BlockPlan,
    journal: Path,
    progress: Progress,
    stop: asyncio.Event,
    start: Callable[[], Awaitable[Origin]],
) -> JournalEnd:
    """Sends this process's share of a block and leaves its journal. `start` returns the origin.

    When `stop` is set no more requests are sent, those in
    flight finish, and planned requests that were never sent are recorded as cancelled. Cancelling
    the coroutine also ends those in flight. The journal is whole either way.
    """
    workload, timetable = plan.workload, plan.timetable
    tokenizer = ModelTokenizer(plan.tokenizer) if plan.tokenizer else None
    with _short_collections():
        async with AsyncExitStack() as stack:
            transports = [
                await stack.enter_async_context(each)
                for each in open_transports(plan.endpoint, workload.transport)
            ]
            connect_s = workload.deadlines.connect
            forms = [await extended_form(each, connect_s) for each in transports]
            origin = await start()
            header = _header(plan, transports[0], timetable, origin.monotonic_ns)
            with JournalWriter(journal, header) as writer:
                traffic = Traffic(
                    transports,
                    plan.endpoint,
                    workload,
                    plan.request_format(all(forms)),
                    origin.monotonic_ns,
                    origin.key_ns,
                    writer,
                    progress,
                    tokenizer,
                )
                return await _drive(plan, traffic, timetable, header.window_start_ns, stop)


async def near_origin() -> Origin:
    """An origin a little ahead, so that an arrival at 0 is not late from the start."""
    return Origin.ahead(_LEAD_NS)


async def _drive(
    plan: BlockPlan,
    traffic: Traffic,
    timetable: Schedule | None,
    window_start_ns: int,
    stop: asyncio.Event,
) -> JournalEnd:
    """Runs the loop and writes the end line, with the client's own condition."""
    cpu_s = time.process_time()

    def end(window_end_ns: int, interrupted: bool) -> JournalEnd:
        line = JournalEnd(
            end="interrupted" if interrupted else "complete",
            ended_ns=traffic.now_ns(),
            window_end_ns=window_end_ns,
            loop_stall_max_ns=stall.longest_ns,
            client_cpu_s=time.process_time() - cpu_s,
            clock_step_ns=traffic.clock_step_ns,
        )
        traffic.writer.end(line)
        return line

    async with _heartbeat(traffic.writer) as stall:
        try:
            if timetable is not None:
                window_end_ns = await open_loop(
                    traffic, plan.questions, plan.stage, timetable, plan.share, stop
                )
            else:
                window_end_ns = await closed_loop(
                    traffic, plan.questions, plan.stage, plan.share, window_start_ns, stop
                )
        except asyncio.CancelledError:
            stopped_ns = traffic.stopped_ns  # requests that were never sent lie outside the window
            traffic.close()
            end(traffic.now_ns() if stopped_ns is None else stopped_ns, interrupted=True)
            raise
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        return end(window_end_ns, stop.is_set())


def _header(
    plan: BlockPlan, transport: Transport, timetable: Schedule | None, origin_ns: int
) -> JournalHeader:
    stage, shared = plan.stage, plan.shared_start
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
        offered_rate=None if timetable is None else _offered_rate(stage, timetable, plan.place),
        concurrency=stage.concurrency,
        planned=stage.requests if timetable is None else len(timetable.times_ns),
        window_start_ns=start_ns,
        window_end_ns=closed_end_ns
        if timetable is None or whole_sessions
        else timetable.window_end_ns,
        workers=plan.share.workers // (shared.machines if shared else 1),
        receiver=transport.receiver,
        identity=plan.identity,
        clock_bound_ns=shared.bound_ns if shared else None,
        replicas=plan.endpoint.servers,
        router=_router(plan.endpoint),
    )


def _router(endpoint: Endpoint) -> RouterKind | None:
    if endpoint.routed:
        return "vllm-router"
    return "round robin" if len(endpoint.replicas) > 1 else None


def _offered_rate(stage: Stage, timetable: Schedule, place: MixPlace) -> float:
    """Arrivals/s over the window: the stage's rate, on average, or the rate in its recording."""
    if (rate := stage.fixed_rate) is not None:
        whole = rate if stage.rate_to is None else (rate + stage.rate_to) / 2
        return whole * place.share(stage.mix) if stage.mix else whole
    inside = (timetable.times_ns >= timetable.window_start_ns).sum()
    return float(inside) / (timetable.window_end_ns - timetable.window_start_ns) * SECOND


@contextmanager
def _short_collections() -> Iterator[None]:
    """Limits garbage collection to new objects, in small portions.

    A full collection stops the event loop for tens of milliseconds, one of 50,000 new objects for
    nine. Without any, failed requests through aiohttp would fill the memory, because their
    tracebacks are reference cycles.
    """
    if gc.get_freeze_count():  # another block of a mix did it
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
class _Stall:
    """The longest time that the event loop was late."""

    longest_ns: int = 0


@asynccontextmanager
async def _heartbeat(writer: JournalWriter) -> AsyncIterator[_Stall]:
    """Flushes the journal, and measures how late the event loop is at most.

    Where the journal can't be written any more, the block inside is cancelled at once and the error
    raised.
    """
    stall = _Stall()

    async def beat() -> None:
        while True:
            before_ns = time.monotonic_ns()
            await asyncio.sleep(_BEAT_S)
            late_ns = time.monotonic_ns() - before_ns - int(_BEAT_S * SECOND)
            stall.longest_ns = max(stall.longest_ns, late_ns)
            writer.tick()

    driving = asyncio.current_task()
    assert driving is not None

    def end_all(beating: asyncio.Task[None]) -> None:
        if not beating.cancelled() and beating.exception() is not None:
            driving.cancel()

    beating = asyncio.create_task(beat())
    beating.add_done_callback(end_all)
    try:
        yield stall
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
