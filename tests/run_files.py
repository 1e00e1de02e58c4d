"""Writes the files of a run directory from records that a test made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from foundation.run.records import JournalEnd, JournalHeader, RequestRecord


def write_block(
    run: Path, header: JournalHeader, records: Sequence[RequestRecord], end: JournalEnd | None
) -> Path:
    """The journal of one block, where its header says it belongs. Without an `end` it was cut off."""
    file = run / "load" / header.variant / header.stage / f"block-{header.block:02d}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [header, *records, *([end] if end is not None else [])]
    file.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return file
