"""Decides when tokens are sent: a queue, slots, and a clock for each request or lockstep engine
steps.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from foundation.run.engine_record import EngineStep
from loadgen.emulator import wire
from loadgen.emulator.batch import send_all
from loadgen.emulator.behaviour import Behaviour, Course
from loadgen.emulator.connection import ClientConnection
from loadgen.emulator.prometheus import EngineGauges
from loadgen.emulator.truth import Truth

# Events that a stream sends before a fault in its middle.
_BEFORE_FAULT = 2
_TRICKLE_S = 0.001


class Job:
    """One request on its way through the engine. `salt`: keeps it apart in the prefix cache."""

    __slots__ = (
        "_rest",
        "connection",
        "course",
        "events",
        "metrics",
        "ready_s",
        "reason",
        "salt",
        "stream",
        "truth",
        "usage",
    )

    def __init__(
        self,
        connection: ClientConnection,
        stream: wire.Stream,
        course: Course,
        usage: bool,
        metrics: bool,
        truth: Truth,
    ) -> None:
        self.connection, self.stream, self.course, self.truth = connection, stream, course, truth
        self.usage, self.metrics = usage, metrics
        self.ready_s = 0.0
        self.salt: str | None = None
        self.reason = course.reason
        self.events, self._rest = -(-course.tokens // stream.step), course.tokens % stream.step

    @property
    def fault(self) -> str | None:
        """The fault of this request, or None."""
        return self.truth.fault

    def open_stream(self) -> None:
        """Sends the head, and the event that names the role."""
        self.truth.head_ns = self.connection.send(wire.STREAM_HEAD)
        if role := self.role():
            self.connection.send(role)

    def role(self) -> bytes:
        """The event that names the role, framed; nothing for text completions."""
        role = self.stream.role()
        return wire.chunk(role) if role else b""

    def event(self, number: int) -> bytes:
        """The event with this number, framed. The last may have fewer tokens."""
        if self._rest and number == self.events - 1:
            return self.stream.partial(number, self._rest)
        return self.stream.tokens(number)

    def count_tokens(self) -> None:
        """Logs the tokens of each event that was sent."""
        sent = len(self.truth.event_ns)
        self.truth.event_tokens = [self.stream.step] * sent
        if self._rest and sent == self.events:
            self.truth.event_tokens[-1] = self._rest

    def last_tokens(self, events: int) -> int:
        """The tokens in the last `events` events that were sent."""
        sent, step, most = len(self.truth.event_ns), self.stream.step, self.course.tokens
        return min(most, sent * step) - min(most, (sent - events) * step)

    def closing(self) -> bytes:
        """Finish reason, usage, [DONE] and the end of the body, without the parts that a fault
        leaves out.
        """
        if self.fault == "no-finish":
            return wire.STREAM_END
        tokens = self.course.tokens
        if self.fault == "abort":
            tokens, self.reason = min(tokens, _BEFORE_FAULT * self.stream.step), "abort"
        tail = self.stream.finish(tokens, self.reason)
        if self.usage:
            tail += self.stream.usage(tokens, self._metrics() if self.metrics else None)
        if self.fault != "no-done":
            tail += b"data: [DONE]\n\n"
        return wire.chunk(tail) + wire.STREAM_END

    def _metrics(self) -> dict[str, float]:
        """The request's times in vLLM's names. There the first token's time begins with a slot."""
        phases, tokens = self.truth.phases_ns, self.course.tokens
        if phases is None:
            return {}
        queued_ms, prefill_ms, decode_ms = (phase_ns / 1e6 for phase_ns in phases)
        gap = {"mean_itl_ms": decode_ms / (tokens - 1)} if tokens > 1 else {}
        return {
            "time_to_first_token_ms": prefill_ms,
            "generation_time_ms": decode_ms,
            "queue_time_ms": queued_ms,
            **gap,
            "tokens_per_second": tokens / (prefill_ms + decode_ms) * 1e3,
        }


class Engine:
    """Runs jobs first come, first served, in `behaviour.slots` slots.

    It calls `on_end` for each job that is over, and `on_step` for each lockstep step with tokens.
    """

    def __init__(
        self,
        behaviour: Behaviour,
        on_end: Callable[[Job, str], None],
        on_step: Callable[[EngineStep], None],
    ) -> None:
        self._behaviour, self._on_end, self._on_step = behaviour, on_end, on_step
        self._loop = asyncio.get_running_loop()
        self._delayed: dict[Job, asyncio.TimerHandle] = {}
        self._queue: deque[Job] = deque()
        self._running: dict[Job, asyncio.TimerHandle | None] = {}
        self._next_step_s = 0.0
        self._stepped_ns = 0
        self._stepping = False

    @property
    def jobs(self) -> list[Job]:
        """The jobs in a slot."""
        return list(self._running)

    @property
    def gauges(self) -> EngineGauges:
        """Requests in a slot and in the engine's queue."""
        return EngineGauges(len(self._running), self._waiting)

    @property
    def _waiting(self) -> int:
        held = sum(job.truth.queued_ns is not None for job in self._delayed)
        return held + len(self._queue)

    def close(self) -> None:
        """Does nothing: the jobs end with their connections."""

    def submit(self, job: Job) -> None:
        """Takes a job, which comes into the queue after the time before it."""
        self._delay(job, job.course.front, self._enter)

    def _enter(self, job: Job) -> None:
        job.truth.queued_ns = time.monotonic_ns()
        self._delay(job, job.course.queue, self._line_up)

    def _line_up(self, job: Job) -> None:
        self._queue.append(job)
        self._admit()

    def _delay(self, job: Job, seconds: float, then: Callable[[Job], None]) -> None:
        if seconds:
            self._delayed[job] = self._loop.call_later(seconds, self._end_delay, job, then)
        else:
            then(job)

    def _end_delay(self, job: Job, then: Callable[[Job], None]) -> None:
        del self._delayed[job]
        then(job)

    def drop(self, job: Job) -> None:
        """Ends a job whose client went away."""
        if job in self._running:
            self._leave(job, "closed")
        elif job in self._delayed:
            self._delayed.pop(job).cancel()
            self._on_end(job, "closed")
        elif job in self._queue:
            self._queue.remove(job)
            self._on_end(job, "closed")

    def _admit(self) -> None:
        while self._queue and (
            not self._behaviour.slots or len(self._running) < self._behaviour.slots
        ):
            job = self._queue.popleft()
            self._running[job] = None
            job.truth.started_ns = time.monotonic_ns()
            job.truth.active = len(self._running)
            if self._behaviour.lockstep:
                job.ready_s = time.monotonic() + job.course.ttft
                self._start_stepping()
            else:
                self._after(job, job.course.ttft, self._begin)

    def _after(self, job: Job, seconds: float, then: Callable[[Job], None]) -> None:
        self._running[job] = self._loop.call_later(seconds, then, job)

    def _leave(self, job: Job, end: str) -> None:
        timer = self._running.pop(job)
        if timer is not None:
            timer.cancel()
        self._on_end(job, end)
        self._admit()

    def _begin(self, job: Job) -> None:
        job.open_stream()
        self._event(job)

    def _event(self, job: Job) -> None:
        event = job.event(len(job.truth.event_ns))
        if job.fault == "trickle":
            self._trickle(job, event)
            return
        job.truth.event_ns.append(job.connection.send(event))
        self._go_on(job)

    def _trickle(self, job: Job, rest: bytes) -> None:
        sent_ns = job.connection.send(rest[:1])
        if len(rest) > 1:
            self._running[job] = self._loop.call_later(_TRICKLE_S, self._trickle, job, rest[1:])
        else:
            job.truth.event_ns.append(sent_ns)
            self._go_on(job)

    def _go_on(self, job: Job) -> None:
        events = len(job.truth.event_ns)
        if events == _BEFORE_FAULT and job.fault in _MIDSTREAM:
            self._break(job)
        elif events >= job.events:
            self._finish(job)
        else:
            self._after(job, job.course.gaps[events - 1], self._event)

    def _finish(self, job: Job) -> None:
        """Ends the answer, after the time that the last token without text takes."""
        if job.course.end:
            self._after(job, job.course.end, self._close)
        else:
            self._close(job)

    def _close(self, job: Job) -> None:
        truth = job.truth
        truth.finished_ns = time.monotonic_ns() if job.course.end else truth.event_ns[-1]
        job.connection.send(job.closing())
        self._leave(job, job.fault or "complete")

    def _break(self, job: Job) -> None:
        """Breaks a stream that went well so far.

        A stalled stream keeps its slot until the client goes away.
        """
        connection, fault = job.connection, job.fault
        if fault == "comments":
            connection.send(wire.chunk(b": still here\n\n"))
            self._after(job, 0.05, self._break)
        elif fault == "abort":
            connection.send(job.closing())
            self._leave(job, fault)
        elif fault == "error-event":
            connection.send(
                wire.chunk(
                    wire.event({"error": {"message": "the engine died", "code": 500}})
                    + b"data: [DONE]\n\n"
                )
            )
            connection.send(wire.STREAM_END)
            self._leave(job, fault)
        elif fault == "bad-json":
            connection.send(wire.chunk(b'data: {"choices": [oops\n\n'))
            connection.send(job.closing())
            self._leave(job, fault)
        elif fault in ("reset-event", "close-event"):
            connection.send(job.event(len(job.truth.event_ns))[:-20])
            self._leave(job, fault)
            self._loop.call_later(
                0.02, connection.reset if fault == "reset-event" else connection.close
            )

    def _start_stepping(self) -> None:
        if not self._stepping:
            self._stepping = True
            self._stepped_ns = time.monotonic_ns()
            self._next_step_s = time.monotonic() + self._behaviour.lockstep
            self._loop.call_later(self._behaviour.lockstep, self._step)

    def _step(self) -> None:
        """Sends the next token to every running request that is past its prefill.

        It sends one more token for each engine step that is overdue.
        """
        now_s, lockstep = time.monotonic(), self._behaviour.lockstep
        steps = 1 + int(max(0.0, now_s - self._next_step_s) / lockstep)
        due: list[tuple[Job, int]] = []
        pieces: list[bytes] = []
        for job in list(self._running):
            number, most = len(job.truth.event_ns), steps
            if number == job.events:  # only the token without text is missing
                continue
            if not number:
                if now_s < job.ready_s:
                    continue
                job.open_stream()
                most = 1
            ahead = min(most, job.events - number)
            due.append((job, ahead))
            pieces.append(
                job.event(number)
                if ahead == 1
                else b"".join(map(job.event, range(number, number + ahead)))
            )
        stamps = send_all([job.connection for job, _ in due], pieces)
        for (job, ahead), at_ns in zip(due, stamps, strict=True):
            job.truth.event_ns += [at_ns] * ahead
            if len(job.truth.event_ns) == job.events and job in self._running:
                self._finish(job)
        self._record_step(due)
        if not self._running:
            self._stepping = False
            return
        self._next_step_s += steps * lockstep
        self._loop.call_later(max(0.0, self._next_step_s - time.monotonic()), self._step)

    def _record_step(self, due: list[tuple[Job, int]]) -> None:
        """Reports the step that gave each job in `due` so many events."""
        now_ns = time.monotonic_ns()
        elapsed_ns, self._stepped_ns = now_ns - self._stepped_ns, now_ns
        if not due:
            return
        begun = [job for job, ahead in due if len(job.truth.event_ns) == ahead]
        going_on = [(job, ahead) for job, ahead in due if len(job.truth.event_ns) > ahead]
        self._on_step(
            EngineStep(
                ended_ns=now_ns,
                elapsed_ns=elapsed_ns,
                context_requests=len(begun),
                context_tokens=sum(job.stream.prompt_tokens for job in begun),
                generation_requests=len(going_on),
                generation_tokens=sum(job.last_tokens(ahead) for job, ahead in going_on),
                running=len(self._running),
                waiting=self._waiting,
            )
        )


_MIDSTREAM = {"stall", "comments", "abort", "error-event", "bad-json", "reset-event", "close-event"}
