"""Who decides when a request goes out: the schedule (open loop), or the answer before it (closed loop)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from loadgen.alarm import Alarm
from loadgen.arrivals import SECOND, Schedule
from loadgen.config import Stage
from loadgen.questions import Question
from loadgen.traffic import Traffic

# A closed loop rests after a failure: a server that refuses at once would else be asked thousands of times a second.
_REST_S = 0.1


async def open_loop(
    traffic: Traffic, questions: Sequence[Question], timetable: Schedule, max_in_flight: int, stop: asyncio.Event
) -> int:
    """Send each arrival at its time, whatever is in flight. Returns the end of the window, ns from the origin.

    An arrival that finds `max_in_flight` others is recorded as dropped.
    """
    times = [int(at) for at in timetable.times_ns]
    begun = 0
    stopped_ns = None
    try:
        async with asyncio.TaskGroup() as group:
            with Alarm() as alarm:
                ringer = asyncio.create_task(_ring_at(stop, alarm))
                try:
                    for number, at_ns in enumerate(times):
                        await alarm.until(traffic.origin_ns + at_ns)
                        if stop.is_set():
                            stopped_ns = traffic.now_ns()
                            break
                        begun = number + 1
                        question = questions[number % len(questions)]
                        if traffic.in_flight >= max_in_flight:
                            traffic.never_sent(number, question, at_ns, "dropped", f"{max_in_flight} requests in flight already")
                        else:
                            group.create_task(traffic.ask(number, question, at_ns))
                finally:
                    ringer.cancel()
    finally:
        for number, at_ns in enumerate(times[begun:], start=begun):
            traffic.never_sent(number, questions[number % len(questions)], at_ns, "cancelled", "stopped before its time")
    return timetable.window_end_ns if stopped_ns is None else min(stopped_ns, timetable.window_end_ns)


async def closed_loop(
    traffic: Traffic, questions: Sequence[Question], stage: Stage, window_start_ns: int, stop: asyncio.Event
) -> int:
    """Keep `stage.concurrency` requests in flight. Returns the end of the window, ns from the origin.

    The window ends with the stage's duration or, where it counts requests, when the first slot finds none left: what follows
    runs at less than the concurrency asked for.
    """
    assert stage.concurrency is not None
    turns = _Turns(traffic, questions, stage, window_start_ns, stop)

    async def slot() -> None:
        while (turn := turns.next()) is not None:
            record = await traffic.ask(*turn)
            if pause := _REST_S if record.failure is not None else stage.think:
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause)

    try:
        with Alarm() as alarm:
            await alarm.until(traffic.origin_ns)
        async with asyncio.TaskGroup() as group:
            for _ in range(stage.concurrency):
                group.create_task(slot())
    finally:
        turns.cancel_the_rest()
    return turns.window_end_ns if turns.window_end_ns is not None else traffic.now_ns()


@dataclass
class _Turns:
    """Hands out the requests of a closed loop: warm-up until the window starts, then the stage's own."""

    traffic: Traffic
    questions: Sequence[Question]
    stage: Stage
    window_start_ns: int
    stop: asyncio.Event
    warmed: int = 0
    taken: int = 0
    window_end_ns: int | None = None

    def next(self) -> tuple[int, Question, int] | None:
        """Number, question and time of the next request, None when there is none."""
        now_ns = self.traffic.now_ns()
        if self.stop.is_set() or self._over(now_ns):
            self.window_end_ns = self.window_end_ns or self._end(now_ns)
            return None
        number = self.warmed + self.taken
        if now_ns < self.window_start_ns:
            self.warmed += 1
            return number, self.questions[-1 - (self.warmed - 1) % len(self.questions)], now_ns
        self.taken += 1
        return number, self.questions[(self.taken - 1) % len(self.questions)], now_ns

    def cancel_the_rest(self) -> None:
        """Record what was planned and not begun."""
        for taken in range(self.taken, self.stage.requests or 0):
            question = self.questions[taken % len(self.questions)]
            self.traffic.never_sent(self.warmed + taken, question, self.traffic.now_ns(), "cancelled", "stopped before its turn")

    def _over(self, now_ns: int) -> bool:
        if self.stage.requests is not None:
            return self.taken >= self.stage.requests
        assert self.stage.duration is not None
        return now_ns >= self.window_start_ns + round(self.stage.duration * SECOND)

    def _end(self, now_ns: int) -> int:
        if self.stage.duration is None:
            return now_ns
        return min(now_ns, self.window_start_ns + round(self.stage.duration * SECOND))


async def _ring_at(stop: asyncio.Event, alarm: Alarm) -> None:
    await stop.wait()
    alarm.ring()
