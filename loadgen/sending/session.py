"""A session: each turn is asked when the one before it was answered, with the real answers in its history."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import suppress

from foundation.run.records import RequestRecord
from loadgen.config import Stage
from loadgen.prompts.questions import Question
from loadgen.schedule.arrivals import SECOND
from loadgen.sending.traffic import Traffic


def session(
    traffic: Traffic,
    numbers: Iterator[int],
    question: Question,
    scheduled_ns: int,
    stage: Stage,
    over_ns: int | None,
    stop: asyncio.Event,
) -> Coroutine[None, None, RequestRecord]:
    """Ask a question and the turns after it, each after the pause that it or `stage` names; the last record.

    A turn that fails ends its session, and none begins after `over_ns` (from the origin) or when `stop` is set.
    """
    # Called, not awaited: the request counts as in flight from here, before its task first runs.
    first = traffic.ask(next(numbers), question, scheduled_ns)
    return (
        first
        if not question.then
        else _go_on(first, traffic, numbers, question, scheduled_ns, stage, over_ns, stop)
    )


async def _go_on(
    asked: Coroutine[None, None, RequestRecord],
    traffic: Traffic,
    numbers: Iterator[int],
    question: Question,
    began_ns: int,
    stage: Stage,
    over_ns: int | None,
    stop: asyncio.Event,
) -> RequestRecord:
    while True:
        record = await asked
        known = (
            None
            if record.input_tokens is None
            else record.input_tokens + (record.output_tokens or 0)
        )
        turn = question.next_turn(record.text, known)
        if turn is None or record.failure is not None:
            return record
        now_ns = traffic.now_ns()
        due_ns = now_ns + round(_pause(stage, turn, now_ns - began_ns) * SECOND)
        if over_ns is not None and due_ns >= over_ns:
            return record
        if due_ns > now_ns:
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), (due_ns - now_ns) / SECOND)
        now_ns = traffic.now_ns()
        if stop.is_set() or (over_ns is not None and now_ns >= over_ns):
            return record
        question, asked = turn, traffic.ask(next(numbers), turn, now_ns)


def _pause(stage: Stage, turn: Question, since_ns: int) -> float:
    """Seconds until a turn is due, `since_ns` after its session began. The speed of a replay holds for both of its times."""
    if turn.at_s is None:
        return stage.pause(turn.delay_s)
    return max(0.0, stage.pause(turn.delay_s or 0.0), stage.pause(turn.at_s) - since_ns / SECOND)
