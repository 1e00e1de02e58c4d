"""The requests of one block as columns: one array or sequence for each field of a journal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import chain
from sys import intern
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from foundation.arrays import Flags, Floats, Ints
from foundation.run import chunks as chunk
from foundation.run.chunks import Chunks
from foundation.run.engine_times import EngineTimes, of_response_metrics
from foundation.run.parsing import BY_CHUNK, Batch, Numbers, batch_of
from foundation.run.records import RequestRecord
from foundation.run.texts import Texts

_TOOLS = ("tool_calls", "function_call")


@dataclass(frozen=True)
class Requests:
    """n requests in the order of their ids.

    Fields are a journal's (`RequestRecord`), stamps integer ns from its origin. Where a request has
    no such number it is NaN: floats hold integers exactly up to 2**53 ns, 104 days. `first_ns` and
    `last_ns` are the stamps of its first and last content chunk. `silent` marks requests whose text
    is empty or blank. `replica`: which of several servers had it, from 1, NaN where nobody knows.
    `engine`: their times inside the server. The properties are in ms.
    """

    id: Ints
    prompt_id: Sequence[str]
    scheduled_ns: Ints
    sent_ns: Floats
    first_ns: Floats
    last_ns: Floats
    done_ns: Floats
    status: Floats
    finish_reason: Sequence[str | None]
    failure: Sequence[str | None]
    error: Sequence[str | None]
    input_tokens: Floats
    output_tokens: Floats
    tokens_from: Sequence[str | None]
    shared_tokens: Floats
    cached_tokens: Floats
    text: Texts
    silent: Flags
    replica: Floats
    notes: Sequence[Sequence[str] | None]
    chunks: Chunks
    engine: EngineTimes

    def __len__(self) -> int:
        return len(self.id)

    def where(self, keep: NDArray[np.bool_]) -> Self:
        """The requests in the mask `keep` (n,)."""
        return self if keep.all() else self.take(np.flatnonzero(keep))

    def take(self, index: Ints) -> Self:
        """The requests at `index`, in that order."""

        place = chunk.as_slice(index)

        def rows_of(column: Any) -> Any:
            if isinstance(column, Chunks):
                return column.take(index)
            if isinstance(column, Texts):
                return column.take(index)
            if isinstance(column, EngineTimes):
                return column.take(place)
            if isinstance(column, np.ndarray):
                return column[place]
            return (
                column[place] if isinstance(place, slice) else [column[i] for i in index.tolist()]
            )

        return type(self)(**{each.name: rows_of(getattr(self, each.name)) for each in fields(self)})

    @cached_property
    def ok(self) -> NDArray[np.bool_]:
        """Whether each request succeeded, (n,)."""
        return np.array([failure is None for failure in self.failure], dtype=np.bool_)

    @cached_property
    def empty(self) -> NDArray[np.bool_]:
        """Whether each request succeeded with an empty answer, (n,).

        An empty answer has no chunk, or no text and no tool call.
        """
        calls_tool = np.array([why in _TOOLS for why in self.finish_reason], dtype=np.bool_)
        return np.asarray(self.ok & (np.isnan(self.last_ns) | (self.silent & ~calls_tool)))

    @cached_property
    def cut_short(self) -> NDArray[np.bool_]:
        """Whether each request succeeded and was cut at its limit of tokens, (n,)."""
        return self.ok & np.array([why == "length" for why in self.finish_reason], dtype=np.bool_)

    @cached_property
    def scheduled(self) -> Floats:
        """The scheduled time."""
        return self.scheduled_ns / 1e6

    @cached_property
    def sent(self) -> Floats:
        """The time of sending."""
        return self.sent_ns / 1e6

    @cached_property
    def first(self) -> Floats:
        """The arrival of the first content chunk."""
        return self.first_ns / 1e6

    @cached_property
    def last(self) -> Floats:
        """The arrival of the last content chunk."""
        return self.last_ns / 1e6

    @cached_property
    def done(self) -> Floats:
        """The end of the stream, or the last chunk where that end is not known."""
        return np.where(np.isnan(self.done_ns), self.last_ns, self.done_ns) / 1e6

    @cached_property
    def latency(self) -> Floats:
        """`last - scheduled`."""
        return self.last - self.scheduled

    @cached_property
    def service_latency(self) -> Floats:
        """`last - sent`."""
        return self.last - self.sent

    @cached_property
    def in_flight(self) -> Floats:
        """`done - sent`: how long the server holds the request.

        The end of an answer comes a step or more after its last text.
        """
        return self.done - self.sent

    @cached_property
    def ttft(self) -> Floats:
        """`first - scheduled`."""
        return self.first - self.scheduled

    @cached_property
    def service_ttft(self) -> Floats:
        """`first - sent`."""
        return self.first - self.sent

    @cached_property
    def tpot(self) -> Floats:
        """`(last - first) / (output_tokens - 1)`, NaN below two tokens."""
        after_first = np.where(self.output_tokens >= 2, self.output_tokens - 1, np.nan)
        return np.asarray((self.last - self.first) / after_first)

    @cached_property
    def slip(self) -> Floats:
        """`sent - scheduled`: how late the client itself was."""
        return self.sent - self.scheduled

    @cached_property
    def wait(self) -> Floats:
        """The moment in the engine's queue less `sent`, NaN where that moment is not known."""
        times = self.engine
        queue_at = times.finished - times.decode - times.prefill - times.queued
        return (queue_at - self.sent_ns) / 1e6

    @cached_property
    def queue(self) -> Floats:
        """How long the request was in the engine's queue before its first step."""
        return self.engine.queued / 1e6

    @cached_property
    def prefill(self) -> Floats:
        """From the request's first step to its first token."""
        return self.engine.prefill / 1e6

    @cached_property
    def total_tokens(self) -> Floats:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens


def requests_of(records: Iterable[RequestRecord]) -> Requests:
    """Records as columns, in the order of their ids."""
    rows = list(records)
    return in_order(columns_of(batch_of(rows, range(len(rows)))))


def columns_of(batch: Batch) -> Requests:
    """The columns of a batch, in the batch's order."""
    rows = batch.columns
    stamps, tokens, lags = (batch.numbers[name] for name in BY_CHUNK)
    count = stamps.counts
    has_chunks = count > 0
    first, last = np.full(len(batch), np.nan), np.full(len(batch), np.nan)
    first[has_chunks] = stamps.values[(np.cumsum(count) - count)[has_chunks]]
    last[has_chunks] = chunk.sums(stamps.values, count)[has_chunks]
    return Requests(
        id=np.array(rows["id"], dtype=np.int64),
        prompt_id=list(map(intern, rows["prompt_id"])),
        scheduled_ns=np.array(rows["scheduled_ns"], dtype=np.int64),
        sent_ns=_floats(rows["sent_ns"]),
        first_ns=first,
        last_ns=last,
        done_ns=_floats(rows["done_ns"]),
        status=_floats(rows["status"]),
        finish_reason=[reason and intern(reason) for reason in rows["finish_reason"]],
        failure=rows["failure"],
        error=rows["error"],
        input_tokens=_floats(rows["input_tokens"]),
        output_tokens=_floats(rows["output_tokens"]),
        tokens_from=rows["tokens_from"],
        shared_tokens=_floats(rows["shared_tokens"]),
        cached_tokens=_floats(rows["cached_tokens"]),
        text=Texts.of(rows["text"]),
        silent=np.array([not text.strip() for text in rows["text"]], dtype=np.bool_),
        replica=_floats(rows["replica"]),
        notes=rows["notes"],
        chunks=chunk.chunks_of(
            count, stamps.values, _tokens_of_chunks(tokens, count), *_whole_lags(lags, count)
        ),
        engine=of_response_metrics(rows["server_metrics"]),
    )


def _tokens_of_chunks(tokens: Numbers, count: Ints) -> Ints:
    """The tokens of every chunk, zeros for a request without one number a chunk."""
    agrees = tokens.counts == count
    if agrees.all():
        return tokens.values
    filled = np.zeros(int(count.sum()), np.int64)
    filled[np.repeat(agrees, count)] = tokens.values[np.repeat(agrees, tokens.counts)]
    return filled


def _whole_lags(lags: Numbers, count: Ints) -> tuple[Ints, Ints]:
    """How many lags each request has, and the lags, only of requests with one lag a chunk."""
    agrees = lags.counts == count
    return np.where(agrees, count, 0), lags.values[np.repeat(agrees, np.maximum(lags.counts, 0))]


def joined(parts: Sequence[Requests]) -> Requests:
    """Several groups of requests as one."""
    if len(parts) == 1:
        return parts[0]

    def join(columns: list[Any]) -> Any:
        if isinstance(columns[0], Chunks):
            return chunk.joined(columns)
        if isinstance(columns[0], Texts):
            return Texts.joined(columns)
        if isinstance(columns[0], EngineTimes):
            return EngineTimes.joined(columns)
        return (
            np.concatenate(columns)
            if isinstance(columns[0], np.ndarray)
            else list(chain.from_iterable(columns))
        )

    return Requests(
        **{
            each.name: join([getattr(part, each.name) for part in parts])
            for each in fields(Requests)
        }
    )


def in_order(requests: Requests) -> Requests:
    """The same requests in the order of their ids."""
    order = np.argsort(requests.id, kind="stable")
    return requests if (np.diff(requests.id) >= 0).all() else requests.take(order)


def _floats(values: Sequence[int | None]) -> Floats:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)
