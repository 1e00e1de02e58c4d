"""Files of a run directory for tests: headers, records, prompts and journals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from foundation.run.engine_record import (
    ENGINE_SCHEMA_VERSION,
    EngineLine,
    EngineRequest,
    EngineStart,
    request_key,
)
from foundation.run.records import (
    SCHEMA_VERSION,
    JournalEnd,
    JournalHeader,
    Prompt,
    RequestRecord,
)

MS = 1_000_000
"""Nanoseconds."""

_HEADER = JournalHeader(
    schema_version=SCHEMA_VERSION, variant="v", stage="s", block=1, seed=0, transport="socket",
    clock="user", origin_monotonic_ns=0, origin_unix_ns=0, model="m", prompt_style="plain",
    api="chat", arrivals="poisson", offered_rate=1.0, concurrency=None, planned=1,
    window_start_ns=0, window_end_ns=10**10,
)  # fmt: skip


def header(**fields: Any) -> JournalHeader:
    """A journal's header: an open loop at 1/s with a window of 10 s, where `fields` say no other.

    With a `concurrency` it is a closed loop, whose window is open.
    """
    if fields.get("concurrency") is not None:
        closed = {"arrivals": "closed", "offered_rate": None, "window_end_ns": None}
        fields = closed | fields
    return msgspec.structs.replace(_HEADER, **fields)


def answer(
    id: int, prompt_id: str, scheduled_ns: int, chunk_ns: list[int], **fields: Any
) -> RequestRecord:
    """A request that succeeded, sent when it was due, with a token a chunk; `fields` override.

    `chunk_ns`: the first chunk from the origin, each other one from the chunk before it.
    """
    success = {
        "sent_ns": scheduled_ns,
        "chunk_tokens": [1] * len(chunk_ns),
        "done_ns": sum(chunk_ns),
        "status": 200,
        "finish_reason": "stop",
        "output_tokens": len(chunk_ns),
        "tokens_from": "server",
    }
    return RequestRecord(
        id=id,
        prompt_id=prompt_id,
        scheduled_ns=scheduled_ns,
        chunk_ns=chunk_ns,
        **(success | fields),
    )


def write_block(
    run: Path, header: JournalHeader, records: Sequence[RequestRecord], end: JournalEnd | None
) -> Path:
    """Writes one block's journal to the path of its header; without an `end` it is cut off."""
    file = run / "load" / header.variant / header.stage / f"block-{header.block:02d}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(lines(header, *records, *([end] if end is not None else [])))
    return file


def engine_start(**fields: Any) -> EngineStart:
    """The first line of a server in an engine record."""
    return EngineStart(
        **{"schema_version": ENGINE_SCHEMA_VERSION, "source": "vLLM 0.32.0", "monotonic_ns": 0}
        | {"unix_ns": 0}
        | fields
    )


def engine_request(
    origin_ns: int, number: int, durations_ns: tuple[int, int, int], **fields: Any
) -> EngineRequest:
    """A finished request in an engine record: queued, prefill and decode; `fields` override."""
    queued, prefill, decode = durations_ns
    usual = {"finished_ns": None, "in_server_ns": sum(durations_ns)} | fields
    return EngineRequest(
        **{"key": request_key(origin_ns, number), "input_tokens": 10, "output_tokens": 2} | usual,
        queued_ns=queued,
        prefill_ns=prefill,
        decode_ns=decode,
    )


def write_engine(run: Path, name: str, *rows: EngineLine) -> Path:
    """Writes an engine record of a run."""
    file = run / "engine" / f"{name}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(lines(*rows))
    return file


def append_prompts(run: Path, prompts: Iterable[Prompt]) -> None:
    """Adds lines to `prompts.jsonl`."""
    run.mkdir(parents=True, exist_ok=True)
    with (run / "prompts.jsonl").open("ab") as file:
        file.write(lines(*prompts))


def lines(*objects: Any) -> bytes:
    """JSON lines."""
    return b"".join(msgspec.json.encode(each) + b"\n" for each in objects)
