"""What this machine's load generator can do on one core: its ceiling, and what its stamps are worth on the way there.

A ladder of loads against the emulator, which knows when it wrote each byte. A figure of this kind holds for this machine, this
Python and nothing else running; it is kept beside them.
"""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from foundation.files.atomic_write import write_whole
from foundation.machine import this_machine
from foundation.progress import Progress, Silent
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
# A load is held when stamps and sends are good to a tenth of what people measure with them, and the core has room to spare.
_ERROR_LIMIT_US = 1_000.0
_SLIP_LIMIT_MS = 5.0
_BUSY_LIMIT = 0.9


class EventLevel(msgspec.Struct, frozen=True, kw_only=True):
    """One load of streamed events, in lockstep batches of `streams`.

    `error_*_us`: arrival stamp less the emulator's write; `coalesced`: share of events read together with the one before,
    and so bear one stamp; `busy`: share of the core.
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
        return not self.failed and self.error_p99_us <= _ERROR_LIMIT_US and self.busy <= _BUSY_LIMIT


class RequestLevel(msgspec.Struct, frozen=True, kw_only=True):
    """One load of short requests on a constant schedule. `slip_p99_ms`: sent less scheduled time; `achieved`: share sent."""

    asked: float
    achieved: float
    slip_p99_ms: float
    busy: float
    failed: int

    @property
    def held(self) -> bool:
        return not self.failed and self.slip_p99_ms <= _SLIP_LIMIT_MS and self.busy <= _BUSY_LIMIT


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """The ladders and what they say; `receiver` is what read the sockets.

    `events_per_s`, `requests_per_s`, `streams`: the highest load that was held, 0 for none; a `..._lower_bound` is True where
    all were. `open` is the ladder of streams, with an event a second each.
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
    """Climb the ladders until a load is not held. Takes about a minute; the machine should be doing nothing else."""
    progress.stage("calibrate", len(event_rates) + len(request_rates) + len(streams), "loads")
    load_average = os.getloadavg()[0]
    events: list[EventLevel] = []
    requests: list[RequestLevel] = []
    many: list[EventLevel] = []
    with _two_cores() as other_core:
        for rate in event_rates:
            events.append(
                await measure_events(rate, max(1, round(rate / _STREAM_RATE)), seconds, other_core)
            )
            level = events[-1]
            progress.advance(
                1,
                f"{rate:,.0f} events/s: p99 error {level.error_p99_us:,.0f} µs, core {level.busy:.0%} busy",
            )
            if not level.held:
                break
        for rate in request_rates:
            requests.append(await measure_requests(rate, seconds, other_core))
            progress.advance(
                1, f"{rate:,.0f} requests/s: p99 slip {requests[-1].slip_p99_ms:.2f} ms"
            )
            if not requests[-1].held:
                break
        for count in streams:
            many.append(await measure_events(count, count, seconds, other_core))
            progress.advance(
                1, f"{count:,} open streams: p99 error {many[-1].error_p99_us:,.0f} µs"
            )
            if not many[-1].held:
                break
    return Calibration(
        machine=this_machine().words,
        python=platform.python_version(),
        receiver=KIND,
        measured_unix=time.time(),
        load_average=load_average,
        events=events,
        requests=requests,
        open=many,
        events_per_s=max((level.sent for level in events if level.held), default=0.0),
        events_lower_bound=events[-1].held,
        requests_per_s=max((level.asked for level in requests if level.held), default=0.0),
        requests_lower_bound=requests[-1].held,
        streams=max((level.streams for level in many if level.held), default=0),
        streams_lower_bound=many[-1].held,
    )


def save(calibration: Calibration, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, msgspec.json.format(msgspec.json.encode(calibration), indent=2) + b"\n")


def load(path: Path) -> Calibration | None:
    """A stored calibration; None where there is none, or one of another version."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Calibration)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


async def measure_events(rate: float, streams: int, seconds: float, core: int | None) -> EventLevel:
    """`rate` events/s in batches of `streams` for `seconds`, with the emulator on `core`."""
    tokens = max(2, round(seconds * rate / streams))
    stage = {"concurrency": streams, "requests": streams}
    arguments = (
        "--lockstep",
        f"{streams / rate * 1e3:.6f}ms",
        "--ttft",
        "500ms",
        "--tokens",
        str(tokens),
    )
    journal, truth = await _measure(stage, arguments, core, tokens)
    wrote = {row["prompt"]: np.array(row["event_ns"]) for row in truth}
    good = [record for record in journal.records if record.failure is None]
    errors = [
        np.cumsum(record.chunk_ns) + journal.origin_ns - wrote[record.prompt_id] for record in good
    ]
    off = np.concatenate(errors) / 1e3 if errors else np.array([np.inf])
    first_ns = min(int(times[0]) for times in wrote.values())
    last_ns = max(int(times[-1]) for times in wrote.values())
    gaps: NDArray[np.int64] = np.concatenate(
        [np.array(record.chunk_ns[1:], np.int64) for record in good] or [np.zeros(0, np.int64)]
    )
    return EventLevel(
        streams=streams,
        asked=rate,
        sent=sum(len(times) for times in wrote.values()) / (last_ns - first_ns) * 1e9,
        error_p50_us=float(np.percentile(off, 50)),
        error_p99_us=float(np.percentile(off, 99)),
        coalesced=float((gaps == 0).mean()) if len(gaps) else 0.0,
        busy=journal.end.client_cpu_s / ((last_ns - first_ns) / 1e9),
        failed=len(journal.records) - len(good),
    )


async def measure_requests(rate: float, seconds: float, core: int | None) -> RequestLevel:
    """`rate` short requests/s for `seconds`, with the emulator on `core`."""
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
    """One block against a fresh emulator: our journal and its truth. A question's id is its text, which matches the two."""
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
    asked = [
        Question(f"stream {n}", [{"role": "user", "content": f"stream {n}"}]) for n in range(count)
    ]
    with tempfile.TemporaryDirectory() as folder:
        truth, path = Path(folder) / "truth.jsonl", Path(folder) / "block.jsonl"
        with emulator(*arguments, truth=truth, core=core) as endpoint:
            plan = BlockPlan(endpoint, workload.stages[0], 1, 0, asked, "plain", workload)
            end = await run_block(plan, path, Silent(), asyncio.Event())
        header, *records, _ = path.read_bytes().splitlines()
        origin_ns = msgspec.json.decode(header, type=_Origin).origin_monotonic_ns
        decode = msgspec.json.Decoder(RequestRecord).decode
        return _Journal(origin_ns, [decode(line) for line in records], end), read_truth(truth)


@contextmanager
def _two_cores() -> Iterator[int | None]:
    """Keep this process on one core; gives another for the emulator, None where there is none or the OS has no say in it."""
    if not hasattr(os, "sched_setaffinity") or len(cores := sorted(os.sched_getaffinity(0))) < 2:
        yield None
        return
    os.sched_setaffinity(0, {cores[0]})
    try:
        yield cores[1]
    finally:
        os.sched_setaffinity(0, cores)
