"""Runs whose requests have chosen segments of time, timed inside the server or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foundation.run.engine_record import EngineRequest
from foundation.run.records import JournalEnd, RequestRecord
from results.analysis import analyse
from results.summary import StageSummary
from tests.results.synthetic import inputs, write_prompts
from tests.run_files import (
    MS,
    answer,
    engine_request,
    engine_start,
    header,
    write_block,
    write_engine,
)

INSIDE = ("before_queue", "queued", "prefill", "decode", "unexplained")


@dataclass(frozen=True)
class Times:
    """The segments of a request, in ms, as they were chosen."""

    slip: float = 1.0
    before_queue: float = 4.0
    queued: float = 10.0
    prefill: float = 20.0
    unexplained: float = 2.0
    decode: float = 50.0
    end_of_answer: float = 6.0
    client_lag: float = 0.5

    @property
    def latency(self) -> float:
        return self.slip + sum(getattr(self, key) for key in INSIDE)

    def record(self, number: int, kernel: bool = True, **fields: object) -> RequestRecord:
        """Sent every 100 ms; the first chunk and the last."""
        scheduled = number * 100 * MS
        sent = scheduled + round(self.slip * MS)
        before = self.before_queue + self.queued + self.prefill + self.unexplained
        first, gap = sent + round(before * MS), round(self.decode * MS)
        usual = {
            "text": "ok",
            "sent_ns": sent,
            "done_ns": first + gap + round(self.end_of_answer * MS),
            "client_lag_ns": [0, round(self.client_lag * MS)] if kernel else None,
        }
        return answer(number, f"q{number}", scheduled, [first, gap], **(usual | fields))

    def engine(self, number: int, origin: int, moments: bool = True) -> EngineRequest:
        """Its line in an engine record; the last token leaves with the last chunk."""
        durations = tuple(round(ms * MS) for ms in (self.queued, self.prefill, self.decode))
        first_token = self.slip + self.before_queue + self.queued + self.prefill
        finished = origin + number * 100 * MS + round((first_token + self.decode) * MS)
        return engine_request(
            origin, number, (durations[0], durations[1], durations[2]),
            finished_ns=finished if moments else None,
        )  # fmt: skip

    def metrics(self) -> dict[str, float]:
        return {
            "queue_time_ms": self.queued,
            "time_to_first_token_ms": self.prefill,
            "generation_time_ms": self.decode,
        }


def origin(variant: str, block: int) -> int:
    return (1 + block) * 10**12 + sum(variant.encode())


def write(
    run: Path, variant: str, blocks: Sequence[Sequence[Times]], by: str = "record",
    kernel: bool = True,
) -> None:  # fmt: skip
    """A variant's blocks, timed inside its server `by` a record, traces, metrics or nobody."""
    rows = []
    for number, times in enumerate(blocks, start=1):
        at = origin(variant, number)
        head = header(
            variant=variant, stage="main", block=number, seed=number, origin_monotonic_ns=at,
            clock="kernel" if kernel else "user", offered_rate=len(times) / 10, planned=len(times),
            prompt_style="short",
        )  # fmt: skip
        records = [
            each.record(i, kernel, server_metrics=each.metrics() if by == "metrics" else None)
            for i, each in enumerate(times)
        ]
        end = JournalEnd(end="complete", ended_ns=10**10, window_end_ns=10**10)
        write_block(run, head, records, end)
        rows += [each.engine(i, at, by == "record") for i, each in enumerate(times)]
    if by in ("record", "traces"):
        start = engine_start(source="OTLP" if by == "traces" else "vLLM 0.32.0")
        write_engine(run, variant, start, *rows)


def stage(run: Path, variants: Sequence[str] = ("base",)) -> StageSummary:
    """The judged stage of the last variant; the first is the baseline."""
    write_prompts(run, {f"q{i}": "ok" for i in range(3)})
    summary = analyse(inputs(run, list(variants)))
    judged = summary.variants[-1].at_judged_stage
    assert judged is not None
    return judged
