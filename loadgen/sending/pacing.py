"""Who decides when a request goes out: the schedule (open loop), or the answer before it (closed loop)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, count

from loadgen.config import Stage
from loadgen.prompts.questions import Question
from loadgen.schedule.arrivals import SECOND, Schedule, Share
from loadgen.sending.kernel_timer import act_at
from loadgen.sending.session import session
from loadgen.sending.traffic import Traffic

# A closed loop rests after a failure: a server that refuses at once would else be asked thousands of times a second.
_REST_S = 0.1
# Without a request for longer than this, a person is told when the next one goes out.
_QUIET_NS = 10 * SECOND
# Arrivals prepared before those already prepared go out.
_AT_ONCE = 16


async def open_loop(
    traffic: Traffic,
    questions: Sequence[Question],
    stage: Stage,
    timetable: Schedule,
    share: Share,
    max_in_flight: int,
    stop: asyncio.Event,
) -> int:
    """Send each arrival at its time, whatever is in flight. Returns the end of the window, ns from the origin.

    An arrival that finds `max_in_flight` others is recorded as dropped. Sessions go on to their end, which is in the window
    then; where the stage has a duration, no turn is begun after it.
    """
    ahead = deque(
        (place, int(timetable.times_ns[place])) for place in share.of(len(timetable.times_ns))
    )
    window_end_ns = timetable.window_end_ns
    over_ns = window_end_ns if stage.duration is not None else None

    def send_due() -> int | None:
        """Send what is due, a few at a time: the first need not wait until the last is prepared. When to go on."""
        for _ in range(_AT_ONCE):
            if not ahead or stop.is_set():
                return None
            place, at_ns = ahead[0]
            if at_ns > traffic.now_ns():
                break
            ahead.popleft()
            number, question = int(timetable.numbers[place]), questions[place % len(questions)]
            if traffic.in_flight >= max_in_flight:
                traffic.never_sent(
                    number,
                    question,
                    at_ns,
                    "dropped",
                    f"{max_in_flight} requests in flight already",
                )
            else:
                numbers = count(number, timetable.total)
                group.create_task(session(traffic, numbers, question, at_ns, stage, over_ns, stop))
        return next_due()

    def next_due() -> int | None:
        if not ahead:
            return None
        if (wait_ns := ahead[0][1] - traffic.now_ns()) > _QUIET_NS:
            traffic.progress.advance(
                0, f"{traffic.in_flight} in flight, the next in {wait_ns / SECOND:.0f} s"
            )
        return traffic.origin_ns + ahead[0][1]

    try:
        async with asyncio.TaskGroup() as group:
            if (due_ns := next_due()) is not None:
                await act_at(due_ns, send_due, stop)
            if ahead:  # stopped
                window_end_ns = min(traffic.now_ns(), window_end_ns)
    finally:
        for place, at_ns in ahead:
            number, question = int(timetable.numbers[place]), questions[place % len(questions)]
            traffic.never_sent(number, question, at_ns, "cancelled", "stopped before its time")
    return (
        window_end_ns if over_ns is not None else max(window_end_ns, traffic.last_scheduled_ns + 1)
    )


async def closed_loop(
    traffic: Traffic,
    questions: Sequence[Question],
    stage: Stage,
    share: Share,
    window_start_ns: int,
    stop: asyncio.Event,
) -> int:
    """Keep `stage.concurrency` requests in flight. Returns the end of the window, ns from the origin.

    The window ends with the stage's duration or, where it counts requests, when the first slot finds none left: what follows
    runs at less than the concurrency asked for.
    """
    assert stage.concurrency is not None
    turns = _Turns(traffic, questions, stage, share, window_start_ns, stop)

    async def slot() -> None:
        while (turn := turns.next()) is not None:
            number, question, at_ns = turn
            numbers = chain([number], turns.numbers)
            record = await session(traffic, numbers, question, at_ns, stage, turns.over_ns, stop)
            if pause := _REST_S if record.failure is not None else stage.think:
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause)

    try:
        await act_at(traffic.origin_ns, lambda: None, stop)
        async with asyncio.TaskGroup() as group:
            for _ in share.of(stage.concurrency):
                group.create_task(slot())
    finally:
        turns.cancel_the_rest()
    return turns.window_end_ns if turns.window_end_ns is not None else traffic.now_ns()


class _Turns:
    """Hands out the requests of a closed loop: warm-up until the window starts, then the stage's own."""

    def __init__(
        self,
        traffic: Traffic,
        questions: Sequence[Question],
        stage: Stage,
        share: Share,
        window_start_ns: int,
        stop: asyncio.Event,
    ) -> None:
        self.window_end_ns: int | None = None
        self._traffic, self._questions, self._share, self._stop = traffic, questions, share, stop
        self._window_start_ns = window_start_ns
        self.over_ns = (
            None if stage.duration is None else window_start_ns + round(stage.duration * SECOND)
        )
        # Places in the block's order of questions. Workers take turns in both.
        self._own = (
            iter(share.of(stage.requests))
            if stage.requests is not None
            else count(share.worker, share.workers)
        )
        self._warmup = count(share.worker, share.workers)
        self.numbers = count(share.worker, share.workers)

    def next(self) -> tuple[int, Question, int] | None:
        """Number, question and time of the next request, None when there is none."""
        now_ns = self._traffic.now_ns()
        if self._stop.is_set():
            self._end(now_ns)
            return None
        if now_ns < self._window_start_ns:
            return (
                next(self.numbers),
                self._questions[-1 - next(self._warmup) % len(self._questions)],
                now_ns,
            )
        if self.over_ns is not None and now_ns >= self.over_ns:
            self._end(self.over_ns)
            return None
        place = next(self._own, None)
        if place is None:
            self._end(now_ns)
            return None
        return next(self.numbers), self._questions[place % len(self._questions)], now_ns

    def cancel_the_rest(self) -> None:
        """Record what was planned and not begun."""
        if self.over_ns is None:
            for place in self._own:
                question = self._questions[place % len(self._questions)]
                self._traffic.never_sent(
                    next(self.numbers),
                    question,
                    self._traffic.now_ns(),
                    "cancelled",
                    "stopped before its turn",
                )

    def _end(self, at_ns: int) -> None:
        if self.window_end_ns is None:
            self.window_end_ns = at_ns
