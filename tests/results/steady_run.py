"""A steady run of one variant, its journals altered by a test, and what its analysis notes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from foundation.run.records import JournalEnd, JournalHeader, RequestRecord
from results.analysis import analyse
from results.summary import StageSummary, Summary
from tests.results.synthetic import Goals, inputs, request, write_journal

SLO = Goals({"latency_p95": "500ms"})
N = 100


def steady(**each: Any) -> list[RequestRecord]:
    return [request(i, f"q{i}", i * 100, 60 + i % 7, 30, **each) for i in range(N)]


def rewritten(
    file: Path,
    header: Callable[[JournalHeader], JournalHeader] | None = None,
    end: Callable[[JournalEnd], JournalEnd] | None = None,
) -> None:
    lines = file.read_bytes().splitlines()
    if header:
        lines[0] = msgspec.json.encode(header(msgspec.json.decode(lines[0], type=JournalHeader)))
    if end:
        lines[-1] = msgspec.json.encode(end(msgspec.json.decode(lines[-1], type=JournalEnd)))
    file.write_bytes(b"\n".join(lines) + b"\n")


def with_header(file: Path, **changes: Any) -> None:
    rewritten(file, header=lambda header: msgspec.structs.replace(header, **changes))


def summary_of(run: Path, variants: tuple[str, ...] = ("base",), goals: Goals = SLO) -> Summary:
    return analyse(inputs(run, variants, goals))


def main(run: Path, goals: Goals = SLO) -> StageSummary:
    return summary_of(run, goals=goals).variants[0].stages[0]


def notes_of(stage: StageSummary) -> str:
    return " ".join(stage.validity.reasons)


def written(run: Path, records: list[RequestRecord], **more: Any) -> StageSummary:
    write_journal(run, "base", 1, records, **more)
    return main(run)
