"""Writes loads in virtual time as the files of a run, which `results` reads like any other."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import msgspec
import numpy as np

from foundation.files.atomic_write import write_whole
from foundation.run.engine_record import (
    EngineLine,
    EngineRequest,
    EngineStep,
    request_key,
)
from foundation.run.journal_writer import JournalWriter
from foundation.run.layout import RunDirectory
from foundation.run.records import (
    PLAIN,
    SCHEMA_VERSION,
    JournalEnd,
    JournalHeader,
    Prompt,
    RequestRecord,
)
from loadgen.emulator.engine_record import engine_record
from loadgen.emulator.plant import Plant
from loadgen.emulator.virtual_load import NONE, ServedLoad
from loadgen.emulator.wire import word

START_NS = 1_000_000_000
"""Where a virtual server's clock begins on the clock of its journals, and of its engine record."""
_EPOCH_NS = 1_767_225_600_000_000_000  # 2026-01-01, for the wall clock that nobody has


class VirtualRun:
    """A run directory, and the variant whose loads are written into it.

    The engine record is `engine/VARIANT.jsonl`; without `recorded` there is none. The prompts have
    no words, only their lengths.
    """

    def __init__(
        self, run: RunDirectory, variant: str, plant: Plant, *, recorded: bool = True
    ) -> None:
        self._run, self._variant, self._plant = run, variant, plant
        self._record = run.engine / f"{variant}.jsonl" if recorded else None
        if self._record is not None:
            self._record.parent.mkdir(parents=True, exist_ok=True)
            with engine_record(self._record) as record:
                record.start(plant.limits, START_NS, _EPOCH_NS + START_NS)

    def write(
        self,
        served: ServedLoad,
        stage: str,
        block: int = 1,
        *,
        offered_rate: float | None = None,
        concurrency: int | None = None,
        warmup: float = 0.0,
    ) -> None:
        """Writes a load as a block's journal, and its requests and steps into the record if any.

        One of `offered_rate` (requests/s) and `concurrency` is set. `warmup`: seconds before the
        window. The window ends with the last arrival.
        """
        header = self._header(served, stage, block, offered_rate, concurrency, warmup)
        with JournalWriter(self._run.journal(self._variant, stage, block), header) as journal:
            for request in _records_of(served):
                journal.record(request)
            journal.end(_end_of(served))
        if self._record is not None:
            lines = _request_lines(served, header.origin_monotonic_ns) + _step_lines(served)
            with engine_record(self._record) as record:
                record.write(lines)

    def write_prompts(self, served: ServedLoad) -> None:
        """Writes the prompts of a load, which all loads of the run ask."""
        lines = msgspec.json.Encoder().encode_lines(_prompts_of(served))
        write_whole(self._run.prompts, lines)

    def _header(
        self,
        served: ServedLoad,
        stage: str,
        block: int,
        offered_rate: float | None,
        concurrency: int | None,
        warmup: float,
    ) -> JournalHeader:
        origin_ns = START_NS + served.origin_ns
        return JournalHeader(
            schema_version=SCHEMA_VERSION,
            variant=self._variant,
            stage=stage,
            block=block,
            seed=self._plant.seed,
            transport="virtual",
            clock="kernel",
            origin_monotonic_ns=origin_ns,
            origin_unix_ns=_EPOCH_NS + origin_ns,
            model="emulated",
            prompt_style=PLAIN,
            api="completions",
            arrivals="trace" if concurrency is None else "closed",
            offered_rate=offered_rate,
            concurrency=concurrency,
            planned=len(served),
            window_start_ns=round(warmup * 1e9),
            window_end_ns=None if concurrency else _window_end_ns(served),
        )


def _window_end_ns(served: ServedLoad) -> int:
    return int(served.arrival_ns.max())


def _end_of(served: ServedLoad) -> JournalEnd:
    return JournalEnd(
        end="complete",
        ended_ns=int(served.last_ns.max()),
        window_end_ns=_window_end_ns(served),
    )


def _records_of(served: ServedLoad) -> Iterator[RequestRecord]:
    """The requests in the order in which they end."""
    start = served.token_start[:-1]
    stamps_ns = served.computed_ns + served.after_ns
    gaps_ns = np.diff(stamps_ns, prepend=0)
    gaps_ns[start] = stamps_ns[start]
    gaps, starts, last = gaps_ns.tolist(), served.token_start.tolist(), served.last_ns.tolist()
    arrived, asked = served.arrival_ns.tolist(), served.load
    inputs, prefixes = asked.input_tokens.tolist(), asked.prefix.tolist()
    shared, cached = asked.prefix_tokens.tolist(), served.cached_tokens.tolist()
    for place in np.argsort(served.last_ns, kind="stable").tolist():
        tokens = starts[place + 1] - starts[place]
        caching = prefixes[place] != NONE
        yield RequestRecord(
            id=place,
            prompt_id=_name(place),
            scheduled_ns=arrived[place],
            sent_ns=arrived[place],
            chunk_ns=gaps[starts[place] : starts[place + 1]],
            chunk_tokens=[1] * tokens,
            done_ns=last[place],
            status=200,
            finish_reason="length",
            input_tokens=inputs[place],
            output_tokens=tokens,
            tokens_from="server",
            text=_text(tokens),
            client_lag_ns=[0] * tokens,
            shared_tokens=shared[place] if caching else None,
            cached_tokens=cached[place] if caching else None,
        )


@cache
def _text(tokens: int) -> str:
    return "".join(map(word, range(tokens)))


def _request_lines(served: ServedLoad, origin_ns: int) -> list[EngineLine]:
    lines: list[EngineLine] = []
    for place, start in enumerate(served.token_start[:-1].tolist()):
        end = int(served.token_start[place + 1])
        arrival_ns, queued_ns, scheduled_ns = (
            int(moments[place])
            for moments in (served.arrival_ns, served.queued_ns, served.scheduled_ns)
        )
        first_ns, last_ns = int(served.computed_ns[start]), int(served.computed_ns[end - 1])
        lines.append(
            EngineRequest(
                key=request_key(origin_ns, place),
                finished_ns=origin_ns + last_ns,
                in_server_ns=last_ns - arrival_ns,
                queued_ns=scheduled_ns - queued_ns,
                prefill_ns=first_ns - scheduled_ns,
                decode_ns=last_ns - first_ns,
                input_tokens=int(served.load.input_tokens[place]),
                output_tokens=end - start,
                cached_tokens=int(served.cached_tokens[place]),
                preemptions=int(served.preemptions[place]),
            )
        )
    return lines


def _step_lines(served: ServedLoad) -> list[EngineLine]:
    steps, origin_ns = served.steps, START_NS + served.origin_ns
    return [
        EngineStep(
            ended_ns=origin_ns + ended_ns,
            elapsed_ns=ended_ns - began_ns,
            context_requests=prompts,
            context_tokens=prefill_tokens,
            generation_requests=decodes,
            generation_tokens=decodes,
            running=running,
            waiting=waiting,
        )
        for began_ns, ended_ns, prompts, prefill_tokens, decodes, running, waiting in zip(
            steps.began_ns.tolist(),
            steps.ended_ns.tolist(),
            steps.prompts.tolist(),
            steps.prefill_tokens.tolist(),
            steps.decodes.tolist(),
            steps.running.tolist(),
            steps.waiting.tolist(),
            strict=True,
        )
    ]


def _prompts_of(served: ServedLoad) -> list[Prompt]:
    load = served.load
    return [
        Prompt(
            id=_name(place),
            set="eval",
            messages={PLAIN: [{"role": "user", "content": _name(place)}]},
            input_tokens=input_tokens,
            output_tokens=output_tokens,
        )
        for place, (input_tokens, output_tokens) in enumerate(
            zip(load.input_tokens.tolist(), load.output_tokens.tolist(), strict=True)
        )
    ]


def _name(place: int) -> str:
    return f"request-{place}"
