"""Journals and prompts read back from a run directory, and journals written on as Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from foundation.errors import BadInput
from results.records import SCHEMA_VERSION, Journal, JournalEnd, JournalHeader, Prompt, RequestRecord

_header = msgspec.json.Decoder(JournalHeader)
_record = msgspec.json.Decoder(RequestRecord)
_end = msgspec.json.Decoder(JournalEnd)
_prompt = msgspec.json.Decoder(Prompt)

T = TypeVar("T")


def read_journal(file: Path) -> Journal | None:
    """A journal of one block. None for one without a whole header line: it was cut off before it began.

    A kill can cut the last line in two: what can't be read there is left out, and `end` is None. A line that can't be read
    anywhere else is damage, and BadInput.
    """
    *lines, rest = file.read_bytes().split(b"\n")  # `rest` follows the last newline: empty, unless a kill cut the line
    if not lines:
        return None
    header = _decode(_header, file, 1, lines[0])
    if header.schema_version > SCHEMA_VERSION:
        raise BadInput(
            f"{file}:1: schema_version {header.schema_version}, this tunedyno reads up to {SCHEMA_VERSION}; use the newer one"
        )
    end = _try(_end, rest or lines[-1])
    body = lines[1:-1] if end and not rest else lines[1:]
    records = [_decode(_record, file, number, line) for number, line in enumerate(body, start=2)]
    if rest and not end and (last := _try(_record, rest)):
        records.append(last)
    return Journal(header, records, end)


def is_whole(file: Path) -> bool:
    """Whether the block was measured to its end: nothing of it has to be asked again."""
    journal = read_journal(file) if file.is_file() else None
    return journal is not None and journal.end is not None and journal.end.end == "complete"


def read_prompts(run: Path) -> dict[str, Prompt]:
    """The questions of a run by id; empty where it has no `prompts.jsonl`."""
    file = run / "prompts.jsonl"
    if not file.is_file():
        return {}
    lines = file.read_bytes().removesuffix(b"\n").split(b"\n")
    prompts = (_decode(_prompt, file, number, line) for number, line in enumerate(lines, start=1))
    return {prompt.id: prompt for prompt in prompts}


def journal_files(directory: Path) -> list[Path]:
    """The journals below a directory, in the order of their names."""
    return sorted(directory.rglob("block-*.jsonl"))


def write_parquet(directory: Path, out: Path) -> Path:
    """Every journal below `directory` as one Parquet file, a row a request, with its variant, stage and block. Returns `out`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, whole, times = pa.string(), pa.int64(), pa.list_(pa.int64())
    columns = {
        "variant": text, "stage": text, "block": pa.int32(), "offered_rate": pa.float64(),
        "id": whole, "prompt_id": text, "scheduled_ns": whole, "sent_ns": whole,
        "chunk_ns": times, "chunk_tokens": pa.list_(pa.int32()), "done_ns": whole, "status": pa.int32(),
        "finish_reason": text, "failure": text, "error": text,
        "input_tokens": whole, "output_tokens": whole, "tokens_from": text, "text": text,
        "server_metrics": text, "client_lag_ns": times,
    }  # fmt: skip
    schema = pa.schema(list(columns.items()))
    labels = [name for name, kind in columns.items() if kind == text]
    with pq.ParquetWriter(out, schema, compression="zstd", use_dictionary=labels) as writer:
        for file in journal_files(directory):
            if journal := read_journal(file):
                writer.write_table(pa.Table.from_pylist(list(_rows(journal)), schema=schema))
    return out


def _rows(journal: Journal) -> Iterator[dict[str, Any]]:
    header = journal.header
    block = {"variant": header.variant, "stage": header.stage, "block": header.block, "offered_rate": header.offered_rate}
    for record in journal.records:
        row = msgspec.structs.asdict(record)
        if record.server_metrics is not None:
            row["server_metrics"] = msgspec.json.encode(record.server_metrics).decode()
        yield block | row


def _decode(decoder: msgspec.json.Decoder[T], file: Path, number: int, line: bytes) -> T:
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}:{number}: not what stands in this place of a journal ({error})") from None


def _try(decoder: msgspec.json.Decoder[T], line: bytes) -> T | None:
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
