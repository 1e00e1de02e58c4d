"""Parses lines of a journal into columns, many lines at a time.

Most of a journal is lists of numbers, one number a chunk. msgspec checks the lines and leaves those
lists as text. numpy turns the text of a whole batch into arrays, in an eighth of the time of
decoding number by number. A batch with anything unusual in it is decoded record by record. Both
ways give the same columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec
import numpy as np

from foundation.arrays import Ints
from foundation.run.records import EXACT, RequestRecord

BY_CHUNK = ("chunk_ns", "chunk_tokens", "client_lag_ns")
_SCALARS = [name for name in RequestRecord.__struct_fields__ if name not in BY_CHUNK]
KEPT_AS_TEXT = ("server_metrics",)


def _rows_with(names: Sequence[str]) -> type[msgspec.Struct]:
    """A `RequestRecord` type whose named fields stay JSON text."""
    fields: list[Any] = []
    for field in msgspec.structs.fields(RequestRecord):
        if field.name in names:
            fields.append(
                (field.name, msgspec.Raw, msgspec.Raw(b"null" if field.default is None else b"[]"))
            )
        elif field.required:
            fields.append((field.name, field.type))
        elif field.default is msgspec.NODEFAULT:
            fields.append(
                (field.name, field.type, msgspec.field(default_factory=field.default_factory))
            )
        else:
            fields.append((field.name, field.type, field.default))
    # A row refers to no other row, so Python need not look for reference cycles.
    return msgspec.defstruct("Row", fields, kw_only=True, gc=False)


_text_rows = msgspec.json.Decoder(_rows_with([*BY_CHUNK, *KEPT_AS_TEXT]))
_rows = msgspec.json.Decoder(_rows_with(KEPT_AS_TEXT))


@dataclass(frozen=True)
class Numbers:
    """Lists of numbers as one array.

    `values`: all numbers. `counts`: how many numbers each row has, -1 for null instead of a list.
    """

    values: Ints
    counts: Ints


@dataclass(frozen=True)
class Batch:
    """n records. `lines` (n,): the line of each record in its file.

    `columns` has the fields of a record, those in `KEPT_AS_TEXT` as JSON. The fields in `BY_CHUNK`
    are in `numbers`.
    """

    lines: Ints
    columns: Mapping[str, Sequence[Any]]
    numbers: Mapping[str, Numbers]

    def __len__(self) -> int:
        return len(self.lines)


Failed = tuple[int, str]
"""The number of a line, and what is wrong with it."""


def parse(lines: Sequence[tuple[int, bytes]]) -> tuple[Batch, list[Failed]]:
    """The records among some numbered lines, and the lines that failed."""
    rows, good_lines, failed = [], [], []
    for number, line in lines:
        try:
            rows.append(_text_rows.decode(line))
            good_lines.append((number, line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            failed.append((number, str(error)))
    numbers = {name: _numbers([bytes(getattr(row, name)) for row in rows]) for name in BY_CHUNK}
    if all(each is not None for each in numbers.values()):
        complete = {name: each for name, each in numbers.items() if each is not None}
        if _ordinary(complete):
            return Batch(
                _ints([number for number, _ in good_lines]), _columns(rows), complete
            ), failed
    batch, irregular = _one_by_one(good_lines)
    return batch, sorted([*failed, *irregular])


def _numbers(texts: Sequence[bytes]) -> Numbers | None:
    """Lists of integers in JSON text as one array; None where a list holds anything else."""
    counts = _ints(
        [-1 if text == b"null" else 0 if text == b"[]" else text.count(b",") + 1 for text in texts]
    )
    digits = b",".join(
        [text[1:-1] for text, count in zip(texts, counts.tolist(), strict=True) if count > 0]
    )
    if digits.translate(None, b"0123456789,-"):
        return None
    total = int(np.maximum(counts, 0).sum())
    if len(digits) == 2 * total - 1:  # one digit each, as the tokens of most chunks
        return Numbers(np.frombuffer(digits, np.uint8)[::2].astype(np.int64) - ord("0"), counts)
    try:
        values = np.fromstring(digits, np.int64, sep=",") if digits else np.empty(0, np.int64)
    except ValueError:  # digits and signs that are no numbers
        return None
    return Numbers(values, counts) if len(values) == total else None


def _ordinary(numbers: Mapping[str, Numbers]) -> bool:
    """Whether all numbers are in the range of their field, and no sum of stamps can exceed its
    range.
    """
    stamps, tokens, lags = (numbers[name] for name in BY_CHUNK)
    longest = int(stamps.counts.max(initial=0))
    return (
        _within(stamps.values, 0, EXACT // max(longest, 1))
        and _within(tokens.values, 0, 2**31 - 1)
        and _within(lags.values, -EXACT, EXACT)
        and stamps.counts.min(initial=0) >= 0
        and tokens.counts.min(initial=0) >= 0
    )


def _within(values: Ints, low: int, high: int) -> bool:
    return bool(values.min(initial=0) >= low and values.max(initial=0) <= high)


def _one_by_one(lines: Sequence[tuple[int, bytes]]) -> tuple[Batch, list[Failed]]:
    """The records among some numbered lines, decoded with all their lists, and the failed lines."""
    rows: list[Any] = []
    numbers, failed = [], []
    for number, line in lines:
        try:
            row: Any = _rows.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            failed.append((number, str(error)))
            continue
        if sum(row.chunk_ns) > EXACT:
            failed.append((number, f"Expected `chunk_ns` to add up to <= {EXACT}"))
            continue
        rows.append(row)
        numbers.append(number)
    return batch_of(rows, numbers), failed


def batch_of(rows: Sequence[Any], lines: Sequence[int]) -> Batch:
    """A batch of records whose lists are Python lists."""
    numbers = {}
    for name in BY_CHUNK:
        lists = [getattr(row, name) for row in rows]
        values = np.fromiter(chain.from_iterable(each or () for each in lists), np.int64)
        numbers[name] = Numbers(
            values, _ints([-1 if each is None else len(each) for each in lists])
        )
    return Batch(_ints(lines), _columns(rows), numbers)


def _columns(rows: Sequence[Any]) -> dict[str, Sequence[Any]]:
    return {name: [getattr(row, name) for row in rows] for name in _SCALARS}


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, dtype=np.int64)
