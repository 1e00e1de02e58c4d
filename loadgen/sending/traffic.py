"""Requests of one block: each is asked once, watched, and leaves one record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Literal

from foundation.http.endpoint import Endpoint
from foundation.models.tokenizer import ModelTokenizer
from foundation.progress import Progress
from foundation.run.journal_writer import JournalWriter
from foundation.run.records import Failure, RequestRecord
from loadgen.config import WorkloadConfig
from loadgen.prompts.questions import Question
from loadgen.protocol.lenient import excerpt
from loadgen.protocol.openai import PATHS, request_body
from loadgen.protocol.reply import Reply, Tokens
from loadgen.sending.deadlines import Watch
from loadgen.transport import Transport
from loadgen.transport.exchange import Backlog, Broken, Exchange


@dataclass
class Traffic:
    """What the requests of a block share. `extended`: the server takes vLLM's form of the API; `tokenizer` counts for it.

    `stopped_ns`: when the first planned request was given up, from the origin; None where none was.
    """

    transport: Transport
    endpoint: Endpoint
    workload: WorkloadConfig
    extended: bool
    origin_ns: int
    writer: JournalWriter
    progress: Progress
    cache_salt: str | None = None
    tokenizer: ModelTokenizer | None = None
    failed: int = 0
    last_scheduled_ns: int = 0
    stopped_ns: int | None = None
    _open: dict[int, tuple[Question, int]] = field(default_factory=dict)
    _backlog: Backlog = field(default_factory=Backlog)

    @property
    def in_flight(self) -> int:
        return len(self._open)

    def now_ns(self) -> int:
        """Time from the block's origin."""
        return time.monotonic_ns() - self.origin_ns

    def ask(
        self, number: int, question: Question, scheduled_ns: int
    ) -> Coroutine[None, None, RequestRecord]:
        """Send one request and record it. It counts as in flight from now, not from when its task first runs."""
        self._open[number] = question, scheduled_ns
        self.last_scheduled_ns = max(self.last_scheduled_ns, scheduled_ns)
        return self._ask(number, question, scheduled_ns)

    def never_sent(
        self, number: int, question: Question, scheduled_ns: int, failure: Failure, why: str
    ) -> None:
        if failure == "cancelled" and self.stopped_ns is None:
            self.stopped_ns = min(scheduled_ns, self.now_ns())
        self._record(
            RequestRecord(
                id=number,
                prompt_id=question.id,
                scheduled_ns=scheduled_ns,
                failure=failure,
                error=why,
            )
        )

    def close(self) -> None:
        """Record the requests whose tasks were cancelled before they first ran."""
        for number, (question, scheduled_ns) in list(self._open.items()):
            self.never_sent(number, question, scheduled_ns, "cancelled", "the block was cancelled")

    async def _ask(self, number: int, question: Question, scheduled_ns: int) -> RequestRecord:
        api = self.workload.api
        endpoint, sampling = self.endpoint, self.workload.sampling
        body = request_body(
            question, endpoint.model, api, sampling, self.extended, self.cache_salt, endpoint.form
        )
        task = asyncio.current_task()
        assert task is not None
        reply = Reply()
        exchange = Exchange(reply, time.monotonic_ns(), self._backlog)
        watch = Watch(task, exchange, reply, self.workload.deadlines)
        broken: Failure | None = None
        detail = ""
        try:
            await self.transport.send(exchange, PATHS[api], body)
            await self._backlog.turn()
        except Broken as error:
            broken, detail = error.failure, str(error)
        except asyncio.CancelledError:
            if watch.missed is None or task.uncancel() > 0:
                broken, detail = "cancelled", "the block was cancelled"
                raise
            broken, detail = (
                watch.missed,
                f"missed the deadline {watch.missed.removeprefix('timeout_')!r}",
            )
        finally:
            watch.stop()
            exchange.digest()
            if exchange.garbled is not None:
                broken, detail = "malformed", exchange.garbled
            ended_ns = time.monotonic_ns()
            reply.close()
            failure, error_text = reply.verdict(exchange.status, broken, detail)
            if error_text is not None and exchange.location is not None:
                error_text += f" (it redirects to {excerpt(exchange.location)})"
            told = reply.tokens()
            input_tokens, output_tokens, counted_by = self._tokens(question, reply, told, failure)
            over_ns = reply.ended_at_ns if failure is None else reply.done_at_ns
            notes = told.notes if failure else [*reply.notes(), *exchange.notes, *told.notes]
            said = reply.text
            if (text := endpoint.redacted_answer(said)) != said:
                notes.append("masked")
            record = RequestRecord(
                id=number,
                prompt_id=question.id,
                scheduled_ns=scheduled_ns,
                sent_ns=None if exchange.sent_ns is None else exchange.sent_ns - self.origin_ns,
                chunk_ns=_gaps(reply.chunk_at_ns, self.origin_ns),
                chunk_tokens=told.chunks,
                done_ns=max(0, (over_ns or ended_ns) - self.origin_ns),
                status=exchange.status,
                finish_reason=reply.finish_reason and endpoint.redacted(reply.finish_reason),
                failure=failure,
                error=None if error_text is None else endpoint.redacted(error_text),
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                tokens_from=counted_by,
                text=text,
                server_metrics=_without_secrets(reply.server_metrics, endpoint),
                client_lag_ns=reply.chunk_lag_ns if self.transport.clock == "kernel" else None,
                shared_tokens=question.shared_tokens,
                cached_tokens=told.cached,
                notes=notes or None,
            )
            self._record(record)
        return record

    def _tokens(
        self, question: Question, reply: Reply, told: Tokens, failure: Failure | None
    ) -> tuple[int | None, int | None, Literal["server", "tokenizer"] | None]:
        """Input and output tokens, and who counted them. A tokenizer can count no thoughts and no tool calls."""
        if told.output is not None:
            return told.input, told.output, "server"
        if self.tokenizer is None or failure is not None:
            return None, None, None
        [taken] = self.tokenizer.prompt_counts([question.messages], self.workload.api)
        given = self.tokenizer.counts([reply.text])[0] if reply.only_text else None
        return taken, given, "tokenizer"

    def _record(self, record: RequestRecord) -> None:
        self._open.pop(record.id, None)
        self.writer.record(record)
        self.failed += record.failure is not None
        self.progress.advance(
            1, f"{self.in_flight} in flight" + (f", {self.failed} failed" if self.failed else "")
        )


def _without_secrets(metrics: dict[str, Any] | None, endpoint: Endpoint) -> dict[str, Any] | None:
    """What a server says of itself, in whose words may stand what it was sent."""
    if not metrics or not endpoint.secrets:
        return metrics
    mask = endpoint.redacted
    return {
        mask(name): mask(value) if isinstance(value, str) else value
        for name, value in metrics.items()
    }


def _gaps(at_ns: list[int], origin_ns: int) -> list[int]:
    """The first from the origin, the others from the one before. Where the clock was set back meanwhile, none is negative."""
    gaps = [later - earlier for earlier, later in zip([origin_ns, *at_ns], at_ns, strict=False)]
    if gaps and min(gaps) < 0:
        gaps = _gaps(list(accumulate(at_ns, max, initial=origin_ns))[1:], origin_ns)
    return gaps
