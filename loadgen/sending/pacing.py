"""Decides when requests go out: on a schedule (open loop), or after an answer (closed loop)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import count

from loadgen.config import Stage
from loadgen.prompts.questions import Question
from loadgen.schedule.arrivals import SECOND, Schedule, WorkerShare
from loadgen.sending.kernel_timer import act_at
from loadgen.sending.session import SessionRules, session
from loadgen.sending.traffic import PlannedRequest, Traffic

# A closed loop rests after a failure. Otherwise it would send thousands of requests a second to a
# server that refuses at once.
_REST_S = 0.1
# Before a longer time without a request, the progress says when the next one goes out.
_QUIET_NS = 10 * SECOND
# Arrivals prepared before those already prepared go out.
_AT_ONCE = 16


async def open_loop(
    traffic: Traffic,
    questions: Sequence[Question],
    stage: Stage,
    timetable: Schedule,
    share: WorkerShare,
    stop: asyncio.Event,
) -> int:
    """Sends each arrival at its time, whatever is in flight.

    Returns the end of the window, ns from the origin. An arrival that finds the most allowed
    requests in flight is recorded as dropped. Sessions go on to their end, and the window then
    includes it. Where the stage has a duration, no turn begins after it.
    """
    window_end_ns = timetable.window_end_ns
    over_ns = window_end_ns if stage.duration is not None else None
    arrivals = _Arrivals(traffic, questions, timetable, share, SessionRules(stage, over_ns, stop))
    try:
        async with asyncio.TaskGroup() as group:
            if (due_ns := arrivals.next_due_ns()) is not None:
                await act_at(due_ns, lambda: arrivals.send_due(group), stop)
            if arrivals.remain:  # stopped
                window_end_ns = min(traffic.now_ns(), window_end_ns)
    finally:
        arrivals.cancel_rest()
    if over_ns is not None:
        return window_end_ns
    return max(window_end_ns, traffic.last_scheduled_ns + 1)


class _Arrivals:
    """The arrivals of an open loop that were not sent yet."""

    def __init__(
        self,
        traffic: Traffic,
        questions: Sequence[Question],
        timetable: Schedule,
        share: WorkerShare,
        rules: SessionRules,
    ) -> None:
        self._traffic, self._questions = traffic, questions
        self._timetable, self._rules = timetable, rules
        self._max_in_flight = len(share.of(traffic.workload.max_in_flight))
        self._ahead = deque(
            (place, int(timetable.times_ns[place])) for place in share.of(len(timetable.times_ns))
        )

    @property
    def remain(self) -> bool:
        """Whether an arrival is left."""
        return bool(self._ahead)

    def next_due_ns(self) -> int | None:
        """The time of the next arrival (CLOCK_MONOTONIC), None after the last."""
        if not self._ahead:
            return None
        traffic, at_ns = self._traffic, self._ahead[0][1]
        if (wait_ns := at_ns - traffic.now_ns()) > _QUIET_NS:
            traffic.progress.advance(
                0, f"{traffic.in_flight} in flight, the next in {wait_ns / SECOND:.0f} s"
            )
        return traffic.origin_ns + at_ns

    def send_due(self, group: asyncio.TaskGroup) -> int | None:
        """Sends the arrivals that are due, a few at a time; returns when to continue.

        So the first of many need not wait until the last is prepared.
        """
        for _ in range(_AT_ONCE):
            if not self._ahead or self._rules.stop.is_set():
                return None
            place, at_ns = self._ahead[0]
            if at_ns > self._traffic.now_ns():
                break
            self._ahead.popleft()
            request = self._request(place, at_ns)
            if self._traffic.in_flight >= self._max_in_flight:
                self._traffic.never_sent(
                    request, "dropped", f"{self._max_in_flight} requests in flight already"
                )
            else:
                total = self._timetable.total
                numbers = count(request.number + total, total)
                group.create_task(session(self._traffic, request, numbers, self._rules))
        return self.next_due_ns()

    def cancel_rest(self) -> None:
        """Records the arrivals that were never sent."""
        for place, at_ns in self._ahead:
            self._traffic.never_sent(
                self._request(place, at_ns), "cancelled", "stopped before its time"
            )

    def _request(self, place: int, at_ns: int) -> PlannedRequest:
        question = self._questions[place % len(self._questions)]
        return PlannedRequest(int(self._timetable.numbers[place]), question, at_ns, place)


async def closed_loop(
    traffic: Traffic,
    questions: Sequence[Question],
    stage: Stage,
    share: WorkerShare,
    window_start_ns: int,
    stop: asyncio.Event,
) -> int:
    """Keeps `stage.concurrency` requests in flight.

    Returns the end of the window, ns from the origin. It ends with the stage's duration. Where the
    stage counts requests, it ends when the first slot finds none left: after that the concurrency
    is lower.
    """
    assert stage.concurrency is not None
    over_ns = None if stage.duration is None else window_start_ns + round(stage.duration * SECOND)
    rules = SessionRules(stage, over_ns, stop)
    requests = _ClosedLoopRequests(traffic, questions, rules, share, window_start_ns)

    async def slot() -> None:
        while (request := requests.next()) is not None:
            record = await session(traffic, request, requests.numbers, rules)
            if pause := _REST_S if record.failure is not None else stage.think:
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause)

    try:
        await act_at(traffic.origin_ns, lambda: None, stop)
        async with asyncio.TaskGroup() as group:
            for _ in share.of(stage.concurrency):
                group.create_task(slot())
    finally:
        requests.cancel_rest()
    return requests.window_end_ns if requests.window_end_ns is not None else traffic.now_ns()


class _ClosedLoopRequests:
    """Gives out the requests of a closed loop: warm-up until the window starts, then the stage's.

    `numbers`: the numbers of its further requests.
    """

    def __init__(
        self,
        traffic: Traffic,
        questions: Sequence[Question],
        rules: SessionRules,
        share: WorkerShare,
        window_start_ns: int,
    ) -> None:
        self.window_end_ns: int | None = None
        self._traffic, self._questions, self._rules = traffic, questions, rules
        self._window_start_ns = window_start_ns
        # Places in the block's order of questions. Workers take turns in both.
        self._own = (
            iter(share.of(rules.stage.requests))
            if rules.stage.requests is not None
            else count(share.worker, share.workers)
        )
        self._warmup = count(share.worker, share.workers)
        self.numbers = count(share.worker, share.workers)

    def next(self) -> PlannedRequest | None:
        """The next request, due now; None after the last."""
        now_ns = self._traffic.now_ns()
        if self._rules.stop.is_set():
            self._end(now_ns)
            return None
        if now_ns < self._window_start_ns:
            number = next(self.numbers)
            return PlannedRequest(number, self._question(-1 - next(self._warmup)), now_ns, number)
        if self._rules.over_ns is not None and now_ns >= self._rules.over_ns:
            self._end(self._rules.over_ns)
            return None
        place = next(self._own, None)
        if place is None:
            self._end(now_ns)
            return None
        number = next(self.numbers)
        return PlannedRequest(number, self._question(place), now_ns, number)

    def cancel_rest(self) -> None:
        """Records the requests that were planned and never sent."""
        if self._rules.over_ns is None:
            for place in self._own:
                number, now_ns = next(self.numbers), self._traffic.now_ns()
                request = PlannedRequest(number, self._question(place), now_ns, number)
                self._traffic.never_sent(request, "cancelled", "stopped before its turn")

    def _question(self, place: int) -> Question:
        """The question at a place of the order that repeats for ever, from the end if negative."""
        return self._questions[place % len(self._questions)]

    def _end(self, at_ns: int) -> None:
        if self.window_end_ns is None:
            self.window_end_ns = at_ns
