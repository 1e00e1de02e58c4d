"""Measures the ceiling of this machine's load generator on one core, and the error of its
stamps.

It climbs a ladder of loads against the emulator, which knows when it wrote each byte. The result
holds for this machine, this Python and no other load; they are stored with it.
"""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from foundation.files.atomic_write import write_whole
from foundation.machine import this_machine
from foundation.progress import Progress, Silent
from foundation.run.ceiling import SLIP_LIMIT_MS
from foundation.run.records import JournalEnd, ReceiverKind, RequestRecord
from loadgen.config import WorkloadConfig
from loadgen.emulator.process import emulator, read_truth
from loadgen.prompts.questions import Question
from loadgen.sending.block import BlockPlan
from loadgen.sending.fleet import run_block
from loadgen.transport.receiver import KIND

EVENT_RATES = (2_500, 5_000, 10_000, 20_000, 40_000, 60_000, 80_000)
REQUEST_RATES = (250, 500, 1_000, 2_000, 4_000)
STREAMS = (500, 1_000, 2_000, 5_000)
_STREAM_RATE = 50.0  # events/s of one stream
_SECONDS = 3.0
# A load is held when stamps and sends are accurate to a tenth of typical measurements, and the core
# is not busy throughout.
_ERROR_LIMIT_US = 1_000.0
_BUSY_LIMIT = 0.9


class EventLevel(msgspec.Struct, frozen=True, kw_only=True):
    """One load of streamed events, in lockstep batches of `streams`.

    `asked` and `sent`: events/s. `error_*_us`: arrival stamp less the emulator's write.
    `coalesced`: share of events that were read together with the one before, and have its stamp.
    `busy`: share of the core.
    """

    streams: int
    asked: float
    sent: float
    error_p50_us: float
    error_p99_us: float
    coalesced: float
    busy: float
    failed: int

    @property
    def held(self) -> bool:
        """Whether the load generator kept up with this load."""
        return not self.failed and self.error_p99_us <= _ERROR_LIMIT_US and self.busy <= _BUSY_LIMIT


class RequestLevel(msgspec.Struct, frozen=True, kw_only=True):
    """One load of short requests on a constant schedule.

    `slip_p99_ms`: sent less scheduled time. `achieved`: share of the requests that were sent.
    `busy`: share of the core.
    """

    asked: float
    achieved: float
    slip_p99_ms: float
    busy: float
    failed: int

    @property
    def held(self) -> bool:
        """Whether the load generator kept up with this load."""
        return not self.failed and self.slip_p99_ms <= SLIP_LIMIT_MS and self.busy <= _BUSY_LIMIT


Level = TypeVar("Level", EventLevel, RequestLevel)


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """The ladders and their results. `receiver`: the code that read the sockets.

    `events_per_s`, `requests_per_s`, `streams`: the highest load that was held, 0 for none.
    `..._lower_bound`: all loads were held. `open`: the ladder of streams, with an event a second
    each.
    """

    machine: str
    python: str
    receiver: ReceiverKind
    measured_unix: float
    load_average: float
    events: list[EventLevel]
    requests: list[RequestLevel]
    open: list[EventLevel]
    events_per_s: float
    events_lower_bound: bool
    requests_per_s: float
    requests_lower_bound: bool
    streams: int
    streams_lower_bound: bool


async def calibrate(
    progress: Progress,
    event_rates: Sequence[float] = EVENT_RATES,
    request_rates: Sequence[float] = REQUEST_RATES,
    streams: Sequence[int] = STREAMS,
    seconds: float = _SECONDS,
) -> Calibration:
    """Climbs each ladder until a load is not held.

    It takes about a minute, in which the machine should do nothing else.
    """
    progress.stage("calibrate", len(event_rates) + len(request_rates) + len(streams), "loads")
    load_average = os.getloadavg()[0]
    with _two_cores() as other_core:
        events = await _climb(
            [
                partial(measure_events, rate, max(1, round(rate / _STREAM_RATE)))
                for rate in event_rates
            ],
            lambda level: (
                f"{level.asked:,.0f} events/s: p99 error {level.error_p99_us:,.0f} µs, "
                f"core {level.busy:.0%} busy"
            ),
            progress,
            seconds,
            other_core,
        )
        requests = await _climb(
            [partial(measure_requests, rate) for rate in request_rates],
            lambda level: f"{level.asked:,.0f} requests/s: p99 slip {level.slip_p99_ms:.2f} ms",
            progress,
            seconds,
            other_core,
        )
        open_streams = await _climb(
            [partial(measure_events, count, count) for count in streams],
            lambda level: f"{level.streams:,} open streams: p99 error {level.error_p99_us:,.0f} µs",
            progress,
            seconds,
            other_core,
        )
    return _calibration(load_average, events, requests, open_streams)


def _calibration(
    load_average: float,
    events: list[EventLevel],
    requests: list[RequestLevel],
    open_streams: list[EventLevel],
) -> Calibration:
    return Calibration(
        machine=this_machine().words,
        python=platform.python_version(),
        receiver=KIND,
        measured_unix=time.time(),
        load_average=load_average,
        events=events,
        requests=requests,
        open=open_streams,
        events_per_s=max((level.sent for level in events if level.held), default=0.0),
        events_lower_bound=events[-1].held,
        requests_per_s=max((level.asked for level in requests if level.held), default=0.0),
        requests_lower_bound=requests[-1].held,
        streams=max((level.streams for level in open_streams if level.held), default=0),
        streams_lower_bound=open_streams[-1].held,
    )


async def _climb(
    measurements: Iterable[Callable[[float, int | None], Awaitable[Level]]],
    words: Callable[[Level], str],
    progress: Progress,
    seconds: float,
    core: int | None,
) -> list[Level]:
    """Runs the measurements of a ladder in order, up to the first load that is not held."""
    levels: list[Level] = []
    for measure in measurements:
        levels.append(await measure(seconds, core))
        progress.advance(1, words(levels[-1]))
        if not levels[-1].held:
            break
    return levels


def save(calibration: Calibration, path: Path) -> None:
    """Writes a calibration as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, msgspec.json.format(msgspec.json.encode(calibration), indent=2) + b"\n")


async def measure_events(rate: float, streams: int, seconds: float, core: int | None) -> EventLevel:
    """`rate` events/s in batches of `streams` for `seconds`, with the emulator on `core`."""
    tokens = max(2, round(seconds * rate / streams))
    lockstep, count = f"{streams / rate * 1e3:.6f}ms", str(tokens)
    arguments = ("--lockstep", lockstep, "--ttft", "500ms", "--tokens", count)
    stage = {"concurrency": streams, "requests": streams}
    journal, truth = await _measure(stage, arguments, core, tokens)
    written_ns = {row["prompt"]: np.array(row["event_ns"]) for row in truth}
    good = [record for record in journal.records if record.failure is None]
    errors = [
        np.cumsum(record.chunk_ns) + journal.origin_ns - written_ns[record.prompt_id]
        for record in good
    ]
    errors_us = np.concatenate(errors) / 1e3 if errors else np.array([np.inf])
    gaps: NDArray[np.int64] = np.concatenate(
        [np.array(record.chunk_ns[1:], np.int64) for record in good] or [np.zeros(0, np.int64)]
    )
    first_ns = min(int(times[0]) for times in written_ns.values())
    last_ns = max(int(times[-1]) for times in written_ns.values())
    return EventLevel(
        streams=streams,
        asked=rate,
        sent=sum(len(times) for times in written_ns.values()) / (last_ns - first_ns) * 1e9,
        error_p50_us=float(np.percentile(errors_us, 50)),
        error_p99_us=float(np.percentile(errors_us, 99)),
        coalesced=float((gaps == 0).mean()) if len(gaps) else 0.0,
        busy=journal.end.client_cpu_s / ((last_ns - first_ns) / 1e9),
        failed=len(journal.records) - len(good),
    )


async def measure_requests(rate: float, seconds: float, core: int | None) -> RequestLevel:
    """Measures `rate` short requests/s for `seconds`, with the emulator on `core`."""
    stage = {"rate": rate, "arrivals": "constant", "duration": f"{seconds}s", "warmup": "0.5s"}
    journal, _ = await _measure(stage, ("--ttft", "5ms", "--tokens", "1"), core, 1)
    sent = [record for record in journal.records if record.sent_ns is not None]
    slips = (
        np.array(
            [
                (record.sent_ns or 0) - record.scheduled_ns
                for record in sent
                if record.scheduled_ns >= 5e8
            ]
        )
        / 1e6
    )
    return RequestLevel(
        asked=rate,
        achieved=len(sent) / len(journal.records),
        slip_p99_ms=float(np.percentile(slips, 99)) if len(slips) else np.inf,
        busy=journal.end.client_cpu_s / (journal.end.ended_ns / 1e9),
        failed=sum(record.failure is not None for record in journal.records),
    )


class _Journal(msgspec.Struct):
    origin_ns: int
    records: list[RequestRecord]
    end: JournalEnd


class _Origin(msgspec.Struct):
    origin_monotonic_ns: int


async def _measure(
    stage: Mapping[str, object], arguments: tuple[str, ...], core: int | None, tokens: int
) -> tuple[_Journal, list[dict[str, Any]]]:
    """Sends one block to a new emulator; returns our journal and its truth log.

    A question's id is its text, by which the two are matched.
    """
    workload = WorkloadConfig.model_validate(
        {
            "stages": [stage],
            "warmup": "0s",
            "max_in_flight": 100_000,
            "workers": 1,
            "sampling": {"max_tokens": tokens},
        }
    )
    count = workload.stages[0].requests or 1000
    questions = [
        Question(f"stream {n}", [{"role": "user", "content": f"stream {n}"}]) for n in range(count)
    ]
    with tempfile.TemporaryDirectory() as folder:
        truth, path = Path(folder) / "truth.jsonl", Path(folder) / "block.jsonl"
        with emulator(*arguments, truth=truth, core=core) as endpoint:
            plan = BlockPlan(endpoint, workload.stages[0], 1, 0, questions, "plain", workload)
            end = await run_block(plan, path, Silent(), asyncio.Event())
        header, *records, _ = path.read_bytes().splitlines()
        origin_ns = msgspec.json.decode(header, type=_Origin).origin_monotonic_ns
        decode = msgspec.json.Decoder(RequestRecord).decode
        return _Journal(origin_ns, [decode(line) for line in records], end), read_truth(truth)


@contextmanager
def _two_cores() -> Iterator[int | None]:
    """Keeps this process on one core, and gives another for the emulator.

    It gives None where there is no other core, or the OS can't pin processes.
    """
    if not hasattr(os, "sched_setaffinity") or len(cores := sorted(os.sched_getaffinity(0))) < 2:
        yield None
        return
    os.sched_setaffinity(0, {cores[0]})
    try:
        yield cores[1]
    finally:
        os.sched_setaffinity(0, cores)
