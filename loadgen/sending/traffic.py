"""Sends the requests of one block. Each is sent once, watched, and leaves one record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Literal, NamedTuple

from foundation.http.endpoint import Endpoint
from foundation.models.tokenizer import ModelTokenizer
from foundation.progress import Progress
from foundation.run.engine_record import request_key
from foundation.run.journal_writer import JournalWriter
from foundation.run.records import Failure, RequestRecord
from loadgen.config import WorkloadConfig
from loadgen.prompts.questions import Question
from loadgen.protocol.lenient_parser import excerpt
from loadgen.protocol.openai import PATHS, RequestFormat, request_body
from loadgen.protocol.reply import Reply, TokenCounts
from loadgen.sending.deadlines import Watch
from loadgen.transport import Transport
from loadgen.transport.exchange import Backlog, BrokenExchange, Exchange


class PlannedRequest(NamedTuple):
    """A request with its number in the block and its scheduled time, ns from the origin.

    `turn`: replicas take turns by it; a session keeps that of its first request.
    """

    number: int
    question: Question
    scheduled_ns: int
    turn: int


@dataclass
class Traffic:
    """The state that the requests of a block share.

    `transports`: one a replica. `key_ns`: that of the `Origin`. `tokenizer` counts where the server
    does not. `stopped_ns`: when the first planned request was given up, from the origin; None where
    none was.
    """

    transports: Sequence[Transport]
    endpoint: Endpoint
    workload: WorkloadConfig
    request_format: RequestFormat
    origin_ns: int
    key_ns: int
    writer: JournalWriter
    progress: Progress
    tokenizer: ModelTokenizer | None = None
    failed: int = 0
    last_scheduled_ns: int = 0
    stopped_ns: int | None = None
    _open: dict[int, PlannedRequest] = field(default_factory=dict)
    _backlog: Backlog = field(default_factory=Backlog)

    @property
    def in_flight(self) -> int:
        """Requests that have no record yet."""
        return len(self._open)

    @property
    def clock_step_ns(self) -> int:
        """How far the clock of the stamps was set so far, ns: the most of any transport."""
        return max((each.clock_step_ns for each in self.transports), key=abs)

    def now_ns(self) -> int:
        """Time since the block's origin."""
        return time.monotonic_ns() - self.origin_ns

    def send(self, request: PlannedRequest) -> Coroutine[None, None, RequestRecord]:
        """Sends one request and records it.

        It counts as in flight from this call, not from when its task first runs.
        """
        self._open[request.number] = request
        self.last_scheduled_ns = max(self.last_scheduled_ns, request.scheduled_ns)
        return self._send(request)

    def never_sent(self, request: PlannedRequest, failure: Failure, why: str) -> None:
        """Records a request that was planned and never sent."""
        if failure == "cancelled" and self.stopped_ns is None:
            self.stopped_ns = min(request.scheduled_ns, self.now_ns())
        self._record(
            RequestRecord(
                id=request.number,
                prompt_id=request.question.id,
                scheduled_ns=request.scheduled_ns,
                failure=failure,
                error=why,
            )
        )

    def close(self) -> None:
        """Records the requests whose tasks were cancelled before they first ran."""
        for request in list(self._open.values()):
            self.never_sent(request, "cancelled", "the block was cancelled")

    async def _send(self, request: PlannedRequest) -> RequestRecord:
        body = request_body(request.question, self.request_format)
        task = asyncio.current_task()
        assert task is not None
        reply, replica = Reply(), request.turn % len(self.transports)
        key = request_key(self.key_ns, request.number)
        exchange = Exchange(reply, time.monotonic_ns(), self._backlog, key)
        watch = Watch(task, exchange, reply, self.workload.deadlines)
        # Kept as text: an exception in a local variable of its own frame is a reference cycle.
        problem: tuple[Failure | None, str] = (None, "")
        try:
            await self.transports[replica].send(exchange, PATHS[self.request_format.api], body)
            await self._backlog.turn()
        except BrokenExchange as error:
            problem = error.failure, str(error)
        except asyncio.CancelledError:
            if watch.missed is None or task.uncancel() > 0:
                problem = "cancelled", "the block was cancelled"
                raise
            name = watch.missed.removeprefix("timeout_")
            problem = watch.missed, f"missed the deadline {name!r}"
        finally:
            watch.stop()
            record = self._record_of(request, replica, exchange, reply, problem)
            self._record(record)
        return record

    def _record_of(
        self,
        request: PlannedRequest,
        replica: int,
        exchange: Exchange,
        reply: Reply,
        problem: tuple[Failure | None, str],
    ) -> RequestRecord:
        """The record of a request that is over. `problem`: the transport's or a deadline's."""
        exchange.digest()
        ended_ns = time.monotonic_ns()
        reply.close()
        failure, error = _verdict(exchange, reply, problem)
        counts = reply.tokens()
        input_tokens, output_tokens, counter = self._tokens(
            request.question, reply, counts, failure
        )
        notes = counts.notes if failure else [*reply.notes(), *exchange.notes, *counts.notes]
        redacted, answer = self.endpoint.redacted, reply.text
        if (text := self.endpoint.redacted_answer(answer)) != answer:
            notes.append("masked")
        over_ns = (reply.ended_at_ns if failure is None else reply.done_at_ns) or ended_ns
        return RequestRecord(
            id=request.number,
            prompt_id=request.question.id,
            scheduled_ns=request.scheduled_ns,
            sent_ns=None if exchange.sent_ns is None else exchange.sent_ns - self.origin_ns,
            chunk_ns=_gaps(reply.chunk_at_ns, self.origin_ns),
            chunk_tokens=counts.chunks,
            done_ns=max(0, over_ns - self.origin_ns),
            status=exchange.status,
            finish_reason=reply.finish_reason and redacted(reply.finish_reason),
            failure=failure,
            error=None if error is None else redacted(error),
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            tokens_from=counter,
            text=text,
            server_metrics=_without_secrets(reply.server_metrics, self.endpoint),
            client_lag_ns=reply.chunk_lag_ns if self.transports[0].clock == "kernel" else None,
            shared_tokens=request.question.shared_tokens,
            cached_tokens=counts.cached,
            notes=notes or None,
            replica=replica + 1 if len(self.transports) > 1 else None,
        )

    def _tokens(
        self, question: Question, reply: Reply, counts: TokenCounts, failure: Failure | None
    ) -> tuple[int | None, int | None, Literal["server", "tokenizer"] | None]:
        """Input and output tokens, and who counted them.

        A tokenizer can't count thoughts or tool calls.
        """
        if counts.output is not None:
            return counts.input, counts.output, "server"
        if self.tokenizer is None or failure is not None:
            return None, None, None
        [prompt] = self.tokenizer.prompt_counts([question.messages], self.workload.api)
        output = self.tokenizer.counts([reply.text])[0] if reply.only_text else None
        return prompt, output, "tokenizer"

    def _record(self, record: RequestRecord) -> None:
        self._open.pop(record.id, None)
        self.writer.record(record)
        self.failed += record.failure is not None
        self.progress.advance(
            1, f"{self.in_flight} in flight" + (f", {self.failed} failed" if self.failed else "")
        )


def _verdict(
    exchange: Exchange, reply: Reply, problem: tuple[Failure | None, str]
) -> tuple[Failure | None, str | None]:
    """The failure class and its text, or (None, None) for a success."""
    if exchange.garbled is not None:
        problem = "malformed", exchange.garbled
    failure, error = reply.verdict(exchange.status, *problem)
    if error is not None and exchange.location is not None:
        error += f" (it redirects to {excerpt(exchange.location)})"
    return failure, error


def _without_secrets(metrics: dict[str, Any] | None, endpoint: Endpoint) -> dict[str, Any] | None:
    """A server's own metrics, with the client's secrets masked: it may repeat what it got."""
    if not metrics or not endpoint.secrets:
        return metrics
    mask = endpoint.redacted
    return {
        mask(name): mask(value) if isinstance(value, str) else value
        for name, value in metrics.items()
    }


def _gaps(at_ns: list[int], origin_ns: int) -> list[int]:
    """The first stamp from the origin, each other as the gap to the one before it.

    Where the clock was set back meanwhile, no gap is negative.
    """
    gaps = [later - earlier for earlier, later in zip([origin_ns, *at_ns], at_ns, strict=False)]
    if gaps and min(gaps) < 0:
        gaps = _gaps(list(accumulate(at_ns, max, initial=origin_ns))[1:], origin_ns)
    return gaps
