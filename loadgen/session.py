"""A session: each turn is asked when the one before it was answered, with the real answers in its history."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import suppress

from loadgen.questions import Question
from loadgen.traffic import Traffic
from results.records import RequestRecord


def session(
    traffic: Traffic,
    numbers: Iterator[int],
    question: Question,
    scheduled_ns: int,
    think: float,
    over_ns: int | None,
    stop: asyncio.Event,
) -> Coroutine[None, None, RequestRecord]:
    """Ask a question and the turns after it, `think` seconds behind each answer; the last record.

    A turn that fails ends its session, and none begins after `over_ns` (from the origin) or when `stop` is set.
    """
    # Called, not awaited: the request counts as in flight from here, before its task first runs.
    first = traffic.ask(next(numbers), question, scheduled_ns)
    return first if not question.then else _go_on(first, traffic, numbers, question, think, over_ns, stop)


async def _go_on(
    asked: Coroutine[None, None, RequestRecord],
    traffic: Traffic,
    numbers: Iterator[int],
    question: Question,
    think: float,
    over_ns: int | None,
    stop: asyncio.Event,
) -> RequestRecord:
    while True:
        record = await asked
        known = None if record.input_tokens is None else record.input_tokens + (record.output_tokens or 0)
        turn = question.next_turn(record.text, known)
        if turn is None or record.failure is not None:
            return record
        if think:
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), think)
        now_ns = traffic.now_ns()
        if stop.is_set() or (over_ns is not None and now_ns >= over_ns):
            return record
        question, asked = turn, traffic.ask(next(numbers), turn, now_ns)
