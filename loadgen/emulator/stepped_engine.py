"""The engine of `--step` in real time: steps as `EngineSteps` has them, tokens sent as they end.

A step begins when the one before it should have ended, not when the event loop came to it. So the
steps depend only on when requests came to the queue, and lateness does not add up.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

from foundation.alarm import Alarm
from foundation.run.engine_record import EngineStep
from loadgen.emulator import wire
from loadgen.emulator.batch import send_all
from loadgen.emulator.block_keys import keys_of_words
from loadgen.emulator.engine import Job
from loadgen.emulator.engine_steps import EngineSteps, TimedStep
from loadgen.emulator.planned_step import ScheduledRequest
from loadgen.emulator.plant import Plant
from loadgen.emulator.prometheus import EngineGauges
from loadgen.emulator.truth import StepTruth, TruthLog

BASE_MODEL = "emulated"
"""The name of the model without an adapter; any other names an adapter."""


class StreamPlace:
    """A job in the engine, and how many tokens were made for it."""

    __slots__ = ("job", "made", "request")

    def __init__(self, job: Job, request: ScheduledRequest) -> None:
        self.job, self.request, self.made = job, request, 0

    def next_piece(self) -> bytes:
        """The bytes of the next token, with what comes before the first and after the last."""
        job, number = self.job, self.made
        self.made += 1
        piece = job.event(number)
        if number == 0:
            piece = wire.STREAM_HEAD + job.role() + piece
        return piece + job.closing() if self.made == job.course.tokens else piece


class Batch(NamedTuple):
    """The tokens of a step on their way out of the server, at `due_ns`."""

    due_ns: int
    truth: StepTruth
    places: list[StreamPlace]
    pieces: list[bytes]


class SteppedEngine:
    """Runs jobs in steps. It calls `on_end` for each job that is over, `on_step` for each step."""

    def __init__(
        self,
        plant: Plant,
        on_end: Callable[[Job, str], None],
        on_step: Callable[[EngineStep], None],
        log: TruthLog,
    ) -> None:
        self._plant, self._on_end, self._on_step, self._log = plant, on_end, on_step, log
        self._steps = EngineSteps(plant)
        self._step: TimedStep | None = None
        self._by_request: dict[ScheduledRequest, StreamPlace] = {}
        self._by_job: dict[Job, StreamPlace] = {}
        self._outbox: deque[Batch] = deque()
        self._step_tokens = 0
        self._timer = ExitStack()
        self._alarm = self._timer.enter_context(Alarm(self._wake))

    @property
    def jobs(self) -> list[Job]:
        """The jobs that the engine has begun."""
        return [job for job in self._by_job if job.truth.started_ns is not None]

    @property
    def gauges(self) -> EngineGauges:
        """Requests now, and what the scheduler counted."""
        scheduler = self._steps.scheduler
        caching = self._plant.limits.prefix_caching
        return EngineGauges(
            running=scheduler.running,
            waiting=self._steps.waiting(time.monotonic_ns()),
            kv_cache_usage=scheduler.cache.usage,
            prefix_queries=scheduler.prefix_queries if caching else None,
            prefix_hits=scheduler.prefix_hits if caching else None,
            preemptions=scheduler.preemptions,
            steps=scheduler.steps,
            step_tokens=self._step_tokens,
        )

    def close(self) -> None:
        """Stops the timer."""
        self._timer.close()

    def submit(self, job: Job) -> None:
        """Takes a job, which comes into the queue after the time before it.

        Raises ValueError if it can never be served, or has a fault of the other engine.
        """
        if job.fault:
            raise ValueError(f"an engine with --step does not have the fault {job.fault}")
        plant, truth = self._plant, job.truth
        prompt_tokens, tokens = job.stream.prompt_tokens, job.course.tokens
        adapter = None if job.stream.model == BASE_MODEL else job.stream.model
        keys = None
        if plant.limits.prefix_caching:
            answer = [wire.word(token).strip() for token in range(tokens)]
            words = truth.prompt.split()
            keys = keys_of_words(words, answer, plant.limits.block_size, (adapter, job.salt))
        request = ScheduledRequest(truth.request, prompt_tokens, tokens, keys, adapter)
        front_s = job.course.front + plant.front_per_token * prompt_tokens
        truth.queued_ns = truth.arrived_ns + round(front_s * 1e9)
        self._steps.enter(request, truth.queued_ns)
        self._by_request[request] = self._by_job[job] = StreamPlace(job, request)
        if self._step is None:
            self._set_alarm()

    def drop(self, job: Job) -> None:
        """Ends a job whose client went away."""
        place = self._by_job.pop(job)
        if self._by_request.pop(place.request, None):
            self._steps.drop(place.request)
        self._on_end(job, "closed")

    def _wake(self) -> None:
        """Ends the steps and sends the tokens that are due, and begins the next step."""
        now_ns = time.monotonic_ns()
        while True:
            if self._step is not None and self._step.ended_ns <= now_ns:
                over, self._step = self._step, None
                self._end(over)
                self._begin(over.ended_ns)
            elif self._step is None and (next_ns := self._steps.next_ns) is not None:
                if next_ns > now_ns:
                    break
                self._begin(next_ns)
            else:
                break
        while self._outbox and self._outbox[0].due_ns <= now_ns:
            self._send(self._outbox.popleft())
        self._set_alarm()

    def _set_alarm(self) -> None:
        times = [self._step.ended_ns if self._step else self._steps.next_ns]
        times += [self._outbox[0].due_ns] if self._outbox else []
        if due := [at_ns for at_ns in times if at_ns is not None]:
            self._alarm.set(min(due))

    def _begin(self, at_ns: int) -> None:
        self._step = step = self._steps.begin(at_ns)
        if step is None:
            return
        running = self._steps.scheduler.running
        for piece in step.planned.pieces:
            place = self._by_request.get(piece.request)
            if place and place.job.truth.started_ns is None:
                place.job.truth.started_ns, place.job.truth.active = at_ns, running

    def _end(self, step: TimedStep) -> None:
        """Counts a step, and puts its tokens into the outbox."""
        decoding = list(self._steps.scheduler.decoding)
        truth = _truth_of(step, decoding)
        outcome = self._steps.end()
        self._step_tokens += truth.decodes + truth.prefill_tokens
        finished = set(outcome.finished)
        places, pieces = [], []
        for request in [*decoding, *outcome.begun]:
            place = self._by_request.get(request)
            if place is None:  # its client went away
                continue
            self._count(place, step.ended_ns)
            if request in finished:
                del self._by_request[request]
            places.append(place)
            pieces.append(place.next_piece())
        self._outbox.append(
            Batch(step.ended_ns + round(self._plant.after * 1e9), truth, places, pieces)
        )
        self._on_step(self._record_of(step, truth))

    def _count(self, place: StreamPlace, ended_ns: int) -> None:
        """Logs a token that a step made."""
        truth, request = place.job.truth, place.request
        if place.made == 0:
            truth.first_ns = ended_ns
            truth.cached_tokens = request.cached_tokens
            if self._plant.limits.prefix_caching:
                place.job.stream.cached_tokens = request.cached_tokens
        if place.made == request.output_tokens - 1:
            truth.finished_ns = ended_ns
            truth.computed_tokens = request.computed_tokens
            truth.preemptions = request.preemptions

    def _send(self, batch: Batch) -> None:
        """Sends the tokens of a step at once."""
        going = [
            (place, piece)
            for place, piece in zip(batch.places, batch.pieces, strict=True)
            if place.job in self._by_job
        ]
        stamps = send_all(
            [place.job.connection for place, _ in going], [piece for _, piece in going]
        )
        for (place, _), at_ns in zip(going, stamps, strict=True):
            truth = place.job.truth
            if truth.head_ns is None:
                truth.head_ns = at_ns
            truth.event_ns.append(at_ns)
            if len(truth.event_ns) == place.job.course.tokens and place.job in self._by_job:
                del self._by_job[place.job]
                self._on_end(place.job, "complete")
        batch.truth.sent_ns = stamps[0] if stamps else None
        self._log.write(batch.truth)

    def _record_of(self, step: TimedStep, truth: StepTruth) -> EngineStep:
        scheduler = self._steps.scheduler
        return EngineStep(
            ended_ns=step.ended_ns,
            elapsed_ns=step.ended_ns - step.began_ns,
            context_requests=len(truth.pieces),
            context_tokens=truth.prefill_tokens,
            generation_requests=truth.decodes,
            generation_tokens=truth.decodes,
            running=scheduler.running,
            waiting=len(scheduler.waiting),
        )


def _truth_of(step: TimedStep, decoding: list[ScheduledRequest]) -> StepTruth:
    planned = step.planned
    return StepTruth(
        step=step.number,
        began_ns=step.began_ns,
        ended_ns=step.ended_ns,
        decodes=planned.decodes,
        kv_tokens=planned.kv_tokens,
        prefill_tokens=planned.prefill_tokens,
        pairs=planned.pairs,
        decoding=[request.number for request in decoding],
        pieces=[(each.request.number, each.before, each.tokens) for each in planned.pieces],
        preempted=[request.number for request in planned.preempted],
    )
